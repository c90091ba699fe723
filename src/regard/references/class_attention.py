"""Class attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def arguments(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    """Translate the arguments of the authors' class."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def timm_arguments(
    dim: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    """Translate the arguments of timm's class, which has no factor of the scores."""
    return arguments(dim, num_heads, qkv_bias, None, attn_drop, proj_drop)


CAIT = {"q": "query", "k": "key", "v": "value", "proj": "out"}
XCIT = {"qkv": ("query", "key", "value"), "proj": "out"}

REFERENCES = (
    Reference("facebookresearch/deit:Class_Attention", arguments, CAIT, map="b heads 1 n"),
    Reference(
        "facebookresearch/xcit:ClassAttention",
        arguments,
        XCIT,
        differs="returns the patches too",
        before=dict(keep_patches=True),
        map="b heads 1 n",
    ),
    Reference("timm:ClassAttn", timm_arguments, CAIT, map="b heads 1 n"),
)
