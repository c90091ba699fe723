"""Focused linear attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

NAMES = {
    "q": "query",
    "qkv": ("query", "key", "value"),
    "kv": ("key", "value"),
    "sr": "shrink",
    "norm": "shrink_norm",
    "positional_encoding": "positions",
    "dwc": "local",
    "proj": "out",
}


def _pvt(
    dim: int,
    num_patches: int,
    num_heads: int = 8,
    qkv_bias: bool = False,
    proj_drop: float = 0.0,
    sr_ratio: int = 1,
    focusing_factor: int = 3,
    kernel_size: int = 5,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        reduction=sr_ratio,
        power=focusing_factor,
        kernel_size=kernel_size,
        num_positions=num_patches // sr_ratio**2,
        bias=qkv_bias,
        out_dropout=proj_drop,
    )


def _swin(
    dim: int,
    window_size: Sequence[int],
    num_heads: int,
    qkv_bias: bool = True,
    proj_drop: float = 0.0,
    focusing_factor: int = 3,
    kernel_size: int = 5,
) -> Options:
    positions = window_size[0] * window_size[1]
    return _pvt(dim, positions, num_heads, qkv_bias, proj_drop, 1, focusing_factor, kernel_size)


REFERENCES = (
    Reference(
        "LeapLabTHU/FLatten-Transformer:flatten_pvt.py:FocusedLinearAttention",
        _pvt,
        NAMES,
        ignored=("qk_scale", "attn_drop"),
    ),
    Reference(
        "LeapLabTHU/FLatten-Transformer:flatten_swin.py:FocusedLinearAttention",
        _swin,
        NAMES,
        ignored=("qk_scale", "attn_drop"),
    ),
)
