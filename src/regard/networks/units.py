"""Single layers with published figures."""

from __future__ import annotations

from typing import Any

from ..mechanisms.self_attention import SelfAttention


def self_attention(in_chans: int = 512, **options: Any) -> SelfAttention:
    """Build self-attention over all positions with four square matrices.

    Tables of efficient attention use it as the baseline.

    Args:
        in_chans: Channels of the features.
        options: Other arguments of `SelfAttention`.

    >>> sum(p.numel() for p in self_attention().parameters())
    1048576
    """
    defaults = {"reduction": 1, "value_reduction": 1, "subsample": False, "residual": False}
    return SelfAttention(in_chans, **{**defaults, **options})
