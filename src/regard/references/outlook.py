"""Outlook attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Options, Reference, Shapes

LAYERS = {"v": "value", "v_pj": "value", "attn": "score", "proj": "out"}


def _authors(
    dim: int,
    num_heads: int,
    kernel_size: int = 3,
    padding: int = 1,
    stride: int = 1,
    qkv_bias: bool = False,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    if padding != kernel_size // 2:
        raise ValueError(f"OutlookAttention: padding must be {kernel_size // 2}, got {padding}")
    return dict(
        channels=dim,
        num_heads=num_heads,
        kernel_size=kernel_size,
        stride=stride,
        bias=qkv_bias,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _xmu(
    dim: int,
    num_heads: int = 1,
    kernel_size: int = 3,
    padding: int = 1,
    stride: int = 1,
    qkv_bias: bool = False,
    attn_drop: float = 0.1,
) -> Options:
    return _authors(
        dim, num_heads, kernel_size, padding, stride, qkv_bias, attn_drop, proj_drop=attn_drop
    )


def _xmu_sizes(shapes: Shapes) -> Options:
    return dict(dim=shapes["proj.weight"][0], qkv_bias="v_pj.bias" in shapes)


REFERENCES = (
    Reference(
        "sail-sg/volo:OutlookAttention",
        _authors,
        LAYERS,
        fixed=dict(qk_scale=None),
        map="b heads y_x k j",
    ),
    Reference("timm:OutlookAttention", _authors, LAYERS, map="b heads y_x k j"),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:OutlookAttention",
        _xmu,
        LAYERS,
        sizes=_xmu_sizes,
        map="b heads y_x k j",
        legacy=Legacy("attention.OutlookAttention", "dim=512", call="ChannelsLast"),
    ),
)
