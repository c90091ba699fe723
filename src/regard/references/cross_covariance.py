"""Cross-covariance attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _arguments(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        bias=qkv_bias,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


NAMES = {"qkv": ("query", "key", "value"), "proj": "out"}

REFERENCES = (
    Reference(
        "facebookresearch/xcit:XCA",
        _arguments,
        NAMES,
        ignored=("qk_scale",),
        map="b heads d d",
    ),
    Reference("timm:XCA", _arguments, NAMES, map="b heads d d"),
)
