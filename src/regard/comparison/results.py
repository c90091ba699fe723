"""The results of a comparison: one row for each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.text import aligned, html_table, si
from .statistics import Difference, mean_and_sd, paired_difference
from .training import Recipe
from .variants import Variant


@dataclass(frozen=True)
class Row:
    """The accuracy and cost of one variant over all seeds.

    Attributes:
        variant: The variant.
        accuracies: Top-1 on the validation images after the last epoch, seed by seed.
        difference: Difference to the baseline; None for the baseline itself.
        params: Number of parameters.
        macs: Multiply-accumulates for one image.
        latency: Median time for one image, in seconds.
    """

    variant: Variant
    accuracies: tuple[float, ...]
    difference: Difference | None
    params: int
    macs: int
    latency: float

    @property
    def label(self) -> str:
        """Name of the variant, as the caller wrote it."""
        return self.variant.label

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return mean_and_sd(self.accuracies)[0]

    @property
    def sd(self) -> float | None:
        """Standard deviation of the accuracies; None for one seed."""
        return mean_and_sd(self.accuracies)[1]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "variant": self.variant.key,
            "label": self.label,
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "sd": self.sd,
            "difference": self.difference and asdict(self.difference),
            "verdict": self.difference and self.difference.verdict,
            "params": self.params,
            "macs": self.macs,
            "latency": self.latency,
        }


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of `regard.compare`.

    Attributes:
        recipe: The settings with which all variants were trained.
        seeds: The seeds.
        rows: One for each variant, the baseline first.
        runs: Accuracy, learning curve and checksums of each run, as in the results log.
        results_path: Path of the results log.
        report: Path of the HTML page.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    runs: tuple[Mapping[str, Any], ...]
    results_path: Path
    report: Path

    @property
    def paired(self) -> bool:
        """Whether all runs of a seed have the same checksums of initial weights and batches."""
        checksums = {(run["seed"], run["backbone"], run["batches"]) for run in self.runs}
        return len(checksums) == len(self.seeds)

    def __repr__(self) -> str:
        return f"Comparison over {len(self.seeds)} seeds\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._cells(), caption=f"{self.recipe.backbone}, {self.report}")

    def table(self) -> str:
        """Return the rows as a text table."""
        return aligned(self._cells())

    def _cells(self) -> list[tuple[str, ...]]:
        head = ("", "accuracy", "difference", "95 % interval", "params", "MACs", "latency", "")
        body = [(*row_cells(row)[:-1], "  " + row_cells(row)[-1]) for row in self.rows]
        return [head, *body]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "recipe": asdict(self.recipe),
            "seeds": list(self.seeds),
            "paired": self.paired,
            "rows": [row.to_dict() for row in self.rows],
            "results_path": str(self.results_path),
            "report": str(self.report),
        }


def attention_rows(comparison: Comparison) -> list[Row]:
    """Return the rows of the attentions, without the baseline and the control."""
    return [r for r in comparison.rows if r.variant.mechanism and not r.variant.control]


def row_cells(row: Row) -> tuple[str, ...]:
    """Format a row: label, accuracy, difference, interval, three costs, verdict."""
    accuracy = f"{100 * row.mean:.2f} %" + (f" ± {100 * row.sd:.2f}" if row.sd is not None else "")
    difference = interval = verdict = ""
    if row.difference:
        difference = format_points(row.difference.mean)
        verdict = row.difference.verdict
        if row.difference.interval:
            interval = " to ".join(map(format_points, row.difference.interval))
    costs = (si(row.params), si(row.macs), f"{1e3 * row.latency:.2f} ms")
    return row.label, accuracy, difference, interval, *costs, verdict


def format_points(difference: float) -> str:
    """Write a difference of accuracies in percentage points.

    >>> format_points(-0.0123), format_points(0.0)
    ('−1.23', '+0.00')
    """
    return f"{100 * difference:+.2f}".replace("-", "−")


def make_rows(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    runs: Mapping[tuple[str, int], Mapping[str, Any]],
    costs: Mapping[str, Mapping[str, Any]],
) -> tuple[Row, ...]:
    """Collect the runs of each variant and compare them with those of the baseline."""
    accuracies = {v: tuple(runs[v.key, seed]["accuracy"] for seed in seeds) for v in variants}
    baseline = accuracies[variants[0]]
    return tuple(
        Row(
            variant,
            values,
            paired_difference(values, baseline) if variant.mechanism else None,
            costs[variant.key]["params"],
            costs[variant.key]["macs"],
            costs[variant.key]["latency"],
        )
        for variant, values in accuracies.items()
    )
