"""Spatial-reduction attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference

NAMES = {"q": "query", "kv": ("key", "value"), "sr": "shrink", "norm": "shrink_norm", "proj": "out"}


def arguments(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
    sr_ratio: int = 1,
    linear: bool = False,
) -> Options:
    """Translate both versions of the class; the first one has no linear form."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        reduction=sr_ratio,
        pool_size=7 if linear else None,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _timm(
    dim: int,
    num_heads: int = 8,
    sr_ratio: int = 1,
    linear_attn: bool = False,
    qkv_bias: bool = True,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    return arguments(
        dim, num_heads, qkv_bias, None, attn_drop, proj_drop, sr_ratio, linear=linear_attn
    )


REFERENCES = (
    Reference("whai362/PVT:Attention", arguments, NAMES, map="b heads n m"),
    Reference("timm:pvt_v2.Attention", _timm, NAMES, map="b heads n m"),
    Reference(
        "timm:GlobalSubSampleAttn",
        lambda dim, num_heads=8, attn_drop=0.0, proj_drop=0.0, sr_ratio=1: arguments(
            dim, num_heads, True, None, attn_drop, proj_drop, sr_ratio
        ),
        NAMES,
        map="b heads n m",
    ),
)
