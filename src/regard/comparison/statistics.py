"""What several seeds say: mean and spread, the paired difference, how sure one can be of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """How a variant differs from the baseline, seed by seed.

    Attributes:
        values: The difference in each seed.
        mean: Their mean.
        interval: Where the true mean lies with 95 % confidence, if one can say.
    """

    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """What may be concluded, in words.

        >>> paired([0.90, 0.91, 0.92], [0.90, 0.90, 0.90]).verdict
        'no difference seen'
        >>> paired([0.93, 0.94, 0.95], [0.90, 0.90, 0.91]).verdict
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
    """The mean and the standard deviation of a sample; one value has no deviation.

    >>> mean_and_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_sd([1.0])
    (1.0, None)
    """
    return fmean(values), stdev(values) if len(values) > 1 else None


def paired(values: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Compare two variants by Student's t over their seeds.

    The seeds are pairs: both variants began with the same weights and saw the same batches, so that
    the spread of the differences is what counts, not that of the accuracies.

    Raises:
        ValueError: the two have not as many seeds.

    >>> paired([3.0, 5.0], [1.0, 1.0])
    Difference(values=(2.0, 4.0), mean=3.0, interval=(-9.70..., 15.70...))
    """
    if len(values) != len(baseline):
        raise ValueError(f"pairs wanted, got {len(values)} values and {len(baseline)}")
    differences = tuple(a - b for a, b in zip(values, baseline, strict=True))
    mean, sd = mean_and_sd(differences)
    # Without spread there is no scale to measure the mean by: t would claim certainty.
    if not sd or sd < 1e-12:
        return Difference(differences, mean, None)
    from scipy.stats import t

    n = len(differences)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / n**0.5
    return Difference(differences, mean, (mean - reach, mean + reach))
