"""What came out: one row for each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..core.text import aligned, html_table, si
from .statistics import Difference, mean_and_sd, paired
from .training import Recipe
from .variants import Variant


@dataclass(frozen=True)
class Row:
    """One variant over all seeds.

    Attributes:
        variant: Which.
        accuracies: Top-1 on the validation images after the last epoch, seed by seed.
        difference: To the baseline; None for the baseline itself.
        params: Parameters.
        macs: Multiply-accumulates for one image.
        latency: Seconds for one image, the median.
    """

    variant: Variant
    accuracies: tuple[float, ...]
    difference: Difference | None
    params: int
    macs: int
    latency: float

    @property
    def label(self) -> str:
        """What it is called."""
        return self.variant.label

    @property
    def mean(self) -> float:
        """Mean of the accuracies."""
        return mean_and_sd(self.accuracies)[0]

    @property
    def sd(self) -> float | None:
        """Their standard deviation; one seed has none."""
        return mean_and_sd(self.accuracies)[1]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
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
    """What `regard.compare` found.

    Attributes:
        recipe: How all were trained.
        seeds: Which seeds.
        rows: One for each variant, the baseline first.
        runs: The lines of the ledger: accuracy, learning curve, checksums of each run.
        ledger: The file they are in.
        report: The page to look at.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    runs: tuple[Mapping[str, Any], ...]
    ledger: Path
    report: Path

    @property
    def paired(self) -> bool:
        """Whether the checksums say that the runs of each seed began and went on alike."""
        alike = {(run["seed"], run["backbone"], run["batches"]) for run in self.runs}
        return len(alike) == len(self.seeds)

    def __repr__(self) -> str:
        return f"Comparison over {len(self.seeds)} seeds\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._cells(), caption=f"{self.recipe.backbone}, {self.report}")

    def table(self) -> str:
        """The rows as text."""
        return aligned(self._cells())

    def _cells(self) -> list[tuple[str, ...]]:
        head = ("", "accuracy", "difference", "95 % interval", "params", "MACs", "latency", "")
        body = [(*cells(row)[:-1], "  " + cells(row)[-1]) for row in self.rows]
        return [head, *body]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "recipe": asdict(self.recipe),
            "seeds": list(self.seeds),
            "paired": self.paired,
            "rows": [row.to_dict() for row in self.rows],
            "ledger": str(self.ledger),
            "report": str(self.report),
        }


def cells(row: Row) -> tuple[str, ...]:
    """A row in words: name, accuracy, difference, interval, three costs, verdict."""
    accuracy = f"{100 * row.mean:.2f} %" + (f" ± {100 * row.sd:.2f}" if row.sd is not None else "")
    change = interval = verdict = ""
    if row.difference:
        change = points(row.difference.mean)
        verdict = row.difference.verdict
        if row.difference.interval:
            interval = " to ".join(map(points, row.difference.interval))
    costs = (si(row.params), si(row.macs), f"{1e3 * row.latency:.2f} ms")
    return row.label, accuracy, change, interval, *costs, verdict


def points(share: float) -> str:
    """Write a difference of accuracies in points of a hundred.

    >>> points(-0.0123), points(0.0)
    ('−1.23', '+0.00')
    """
    return f"{100 * share:+.2f}".replace("-", "−")


def rows(
    variants: Sequence[Variant],
    seeds: Sequence[int],
    runs: Mapping[tuple[str, int], Mapping[str, Any]],
    costs: Mapping[str, Mapping[str, Any]],
) -> tuple[Row, ...]:
    """Gather the runs of each variant and set them beside those of the baseline."""
    found = {v: tuple(runs[v.key, seed]["accuracy"] for seed in seeds) for v in variants}
    baseline = found[variants[0]]
    return tuple(
        Row(
            variant,
            accuracies,
            paired(accuracies, baseline) if variant.mechanism else None,
            costs[variant.key]["params"],
            costs[variant.key]["macs"],
            costs[variant.key]["latency"],
        )
        for variant, accuracies in found.items()
    )
