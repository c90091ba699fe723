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


REFERENCES = (
    Reference("whai362/PVT:Attention", arguments, NAMES, map="b heads n m"),
)
