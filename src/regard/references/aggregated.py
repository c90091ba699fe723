"""Aggregated attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

NAMES = {
    "q": "query",
    "kv": ("key", "value"),
    "qkv": ("query", "key", "value"),
    "proj": "out",
    "sr": "shrink",
    "norm": "shrink_norm",
    "cpb_fc1": "position_hidden",
    "cpb_fc2": "position_out",
    "relative_pos_bias_local": "near",
    "learnable_tokens": "weights",
    "learnable_bias": "weights_bias",
}


def _aggregated(
    dim: int,
    input_resolution: Sequence[int],
    num_heads: int = 8,
    window_size: int = 3,
    qkv_bias: bool = True,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    sr_ratio: int = 1,
    fixed_pool_size: int | None = None,
    pretrain_size: Sequence[int] | None = None,
) -> Options:
    """Translate the arguments, and of the positions that the class is called with their scale."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        window_size=window_size,
        reduction=sr_ratio,
        pool_size=fixed_pool_size,
        pretrained_size=None if pretrain_size is None else tuple(pretrain_size),
        bias=qkv_bias,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _last(
    dim: int,
    input_resolution: Sequence[int],
    num_heads: int = 8,
    qkv_bias: bool = True,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    pretrain_size: Sequence[int] | None = None,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        window_size=None,
        pretrained_size=None if pretrain_size is None else tuple(pretrain_size),
        bias=qkv_bias,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


REFERENCES = (
    Reference(
        "DaiShiResearch/TransNeXt:AggregatedAttention", _aggregated, NAMES, map="b heads n k"
    ),
    Reference("DaiShiResearch/TransNeXt:transnext.py:Attention", _last, NAMES, map="b heads n k"),
)
