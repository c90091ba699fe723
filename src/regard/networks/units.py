"""Parts of networks of which figures are published by themselves."""

from __future__ import annotations

from typing import Any

from ..mechanisms.self_attention import SelfAttention


def self_attention(in_chans: int = 512, **options: Any) -> SelfAttention:
    """Attention of all positions to all, by four square matrices.

    Against this one, tables of efficient attention are compared.

    Args:
        in_chans: Channels of the features.
        options: All other arguments of `SelfAttention`.

    >>> sum(p.numel() for p in self_attention().parameters())
    1048576
    """
    plain = {"reduction": 1, "value_reduction": 1, "subsample": False, "residual": False}
    return SelfAttention(in_chans, **{**plain, **options})
