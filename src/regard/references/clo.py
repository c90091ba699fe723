"""Clo attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference


def _authors(
    dim: int,
    num_heads: int,
    group_split: Sequence[int],
    kernel_sizes: Sequence[int],
    window_size: int = 7,
    qkv_bias: bool = True,
) -> Options:
    if sum(group_split) != num_heads:
        raise ValueError(
            f"EfficientAttention: group_split ({tuple(group_split)}) must sum to num_heads "
            f"({num_heads})"
        )
    return dict(
        channels=dim,
        group_heads=tuple(group_split),
        kernel_sizes=tuple(kernel_sizes),
        window_size=window_size,
        bias=qkv_bias,
    )


REFERENCES = (
    Reference(
        "qhfan/CloFormer:EfficientAttention",
        _authors,
        {
            "qkvs": "qkv",
            "convs": "near",
            "act_blocks.*.act_block.0": "first.*",
            "act_blocks.*.act_block.2": "last.*",
            "global_q": "query",
            "global_kv": "key_value",
            "proj": "project",
        },
        fixed=dict(attn_drop=0.0, proj_drop=0.0),
        map="high0: b c h w, high1: b c h w, high2: b c h w, high3: b c h w, low: b heads n m",
    ),
)
