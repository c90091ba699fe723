"""Attention of the bottleneck transformer in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference


def _timm(
    dim: int,
    dim_out: int | None = None,
    feat_size: Sequence[int] = (14, 14),
    stride: int = 1,
    num_heads: int = 4,
    dim_head: int | None = None,
    qk_ratio: float = 1.0,
    qkv_bias: bool = False,
    scale_pos_embed: bool = False,
) -> Options:
    width = dim_out or dim
    # timm rounds the channels of the keys to multiples of eight, but not down by over a tenth.
    rounded = max(8, int(width * qk_ratio + 4) // 8 * 8)
    rounded += 8 * (rounded < 0.9 * width * qk_ratio)
    return dict(
        channels=dim,
        out_channels=width,
        num_heads=num_heads,
        size=tuple(feat_size),
        head_dim=dim_head or rounded // num_heads,
        scale_positions=scale_pos_embed,
        bias=qkv_bias,
        stride=stride,
    )


def _lucidrains(
    *,
    dim: int,
    fmap_size: int | Sequence[int],
    heads: int = 4,
    dim_head: int = 128,
    rel_pos_emb: bool = False,
) -> Options:
    return dict(
        channels=dim,
        out_channels=heads * dim_head,
        num_heads=heads,
        size=fmap_size if isinstance(fmap_size, int) else tuple(fmap_size),
        positions="relative" if rel_pos_emb else "absolute",
        scale_positions=True,
    )


REFERENCES = (
    Reference(
        "timm:BottleneckAttn",
        _timm,
        {"pos_embed.height_rel": "rows", "pos_embed.width_rel": "columns"},
        map="b_heads n n",
    ),
    Reference(
        "lucidrains/bottleneck-transformer-pytorch:Attention",
        _lucidrains,
        {
            "to_qkv": "qkv",
            "pos_emb.rel_height": "rows",
            "pos_emb.rel_width": "columns",
            "pos_emb.height": "rows",
            "pos_emb.width": "columns",
        },
        map="b heads n n",
    ),
)
