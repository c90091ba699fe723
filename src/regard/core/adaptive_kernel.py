"""The rule by which gates over channels choose the length of their 1D convolution."""

from __future__ import annotations

import math

from .check import positive


def adaptive_kernel(channels: int, gamma: float = 2, offset: float = 1) -> int:
    r"""Return ECA's kernel size: the odd number nearest to :math:`(\log_2 C + b)/\gamma`.

    Ties are rounded up.

    >>> [adaptive_kernel(c) for c in (4, 8, 64, 128, 2047, 2048)]
    [1, 3, 3, 5, 5, 7]
    """
    positive(channels=channels)
    k = int(abs((math.log2(channels) + offset) / gamma))
    return k if k % 2 else k + 1
