"""Locally-grouped attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference
from .spatial_reduction import NAMES
from .spatial_reduction import arguments as _global

if TYPE_CHECKING:
    from torch import nn


def _local(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    ws: int = 1,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        window_size=ws,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _global_module(options: Options) -> nn.Module:
    """Build the attention that Twins alternates with this one, which is that of PVT."""
    from ..mechanisms.spatial_reduction import SpatialReduction

    return SpatialReduction(**options)


REFERENCES = (
    Reference(
        "Meituan-AutoML/Twins:GroupAttention",
        _local,
        {"qkv": ("query", "key", "value"), "proj": "out"},
        ignored=("sr_ratio",),
        map="b g heads q k",
    ),
    Reference(
        "Meituan-AutoML/Twins:GroupAttention.forward_padding",
        _local,
        {"qkv": ("query", "key", "value"), "proj": "out"},
        ignored=("sr_ratio",),
        map="b g heads q k",
        differs="does not mask the padding",
        before=dict(mask_padding=False),
    ),
    Reference(
        "Meituan-AutoML/Twins:Attention",
        _global,
        NAMES,
        builds=_global_module,
        map="b heads n m",
    ),
    Reference(
        "timm:LocallyGroupedAttn",
        lambda dim, num_heads=8, attn_drop=0.0, proj_drop=0.0, ws=1: _local(
            dim, num_heads, True, None, attn_drop, proj_drop, ws
        ),
        {"qkv": ("query", "key", "value"), "proj": "out"},
        differs="does not mask the padding",
        before=dict(mask_padding=False),
    ),
)
