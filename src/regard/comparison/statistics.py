"""Statistics over seeds: mean, standard deviation, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How much a variant differs from the baseline, seed by seed.

    Attributes:
        values: The difference for each seed.
        mean: Mean of the differences.
        interval: 95 % confidence interval of the mean; None for one seed, or without spread.
    """

    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """The conclusion that the interval allows, in words.

        >>> paired_difference([0.90, 0.91, 0.92], [0.90, 0.90, 0.90]).verdict
        'no difference seen'
        >>> paired_difference([0.93, 0.94, 0.95], [0.90, 0.90, 0.91]).verdict
        'better by 3.7 points'
        """
        if len(self.values) < 2:
            return "one seed: cannot say"
        if self.interval is None:
            return "the same in every seed" if self.mean == 0 else "no spread: cannot say"
        low, high = self.interval
        if low <= 0 <= high:
            return "no difference seen"
        return f"{'better' if self.mean > 0 else 'worse'} by {abs(100 * self.mean):.1f} points"


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the standard deviation of a sample; None for that of one value.

    >>> mean_and_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_sd([1.0])
    (1.0, None)
    """
    return fmean(values), stdev(values) if len(values) > 1 else None


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Compare two variants by a paired Student's t interval over their seeds.

    Both variants of a seed start with the same weights and train on the same batches, so the spread
    of the differences matters, not that of the accuracies.

    Raises:
        ValueError: the two have different numbers of seeds.

    >>> paired_difference([3.0, 5.0], [1.0, 1.0])
    Difference(values=(2.0, 4.0), mean=3.0, interval=(-9.70..., 15.70...))
    """
    if len(values) != len(baseline):
        raise ValueError(
            f"expected as many values as baselines, got {len(values)} and {len(baseline)}"
        )
    differences = tuple(a - b for a, b in zip(values, baseline, strict=True))
    mean, sd = mean_and_sd(differences)
    # Without spread the interval would have no width and claim certainty.
    if not sd or sd < 1e-12:
        return Difference(differences, mean, None)
    from scipy.stats import t

    n = len(differences)
    half_width = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5
    return Difference(differences, mean, (mean - half_width, mean + half_width))
