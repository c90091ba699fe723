"""Pooling attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

NAMES = {
    "qkv": ("query", "key", "value"),
    "q": "query",
    "k": "key",
    "v": "value",
    "pool_q": "pools.query",
    "pool_k": "pools.key",
    "pool_v": "pools.value",
    "norm_q": "norms.query",
    "norm_k": "norms.key",
    "norm_v": "norms.value",
    "rel_pos_h": "positions.0",
    "rel_pos_w": "positions.1",
    "proj": "out",
}


def _authors(
    dim: int,
    dim_out: int,
    input_size: Sequence[int],
    num_heads: int = 8,
    qkv_bias: bool = False,
    kernel_q: Sequence[int] = (1, 1),
    kernel_kv: Sequence[int] = (1, 1),
    stride_q: Sequence[int] = (1, 1),
    stride_kv: Sequence[int] = (1, 1),
    has_cls_embed: bool = True,
    mode: str = "conv",
    pool_first: bool = False,
    rel_pos_spatial: bool = False,
    residual_pooling: bool = True,
    hw: Sequence[int] | None = None,
) -> Options:
    """Translate the arguments of the class, and of its call the grid of the tokens."""
    if mode == "conv_unshared":
        raise ValueError("MultiScaleAttention: here the heads share the convolutions")
    return dict(
        channels=dim,
        out_channels=dim_out,
        num_heads=num_heads,
        pool=mode,
        query_kernel=tuple(kernel_q),
        query_stride=tuple(stride_q),
        key_kernel=tuple(kernel_kv),
        key_stride=tuple(stride_kv),
        pool_first=pool_first,
        size=tuple(input_size) if rel_pos_spatial else None,
        residual=residual_pooling,
        bias=qkv_bias,
        grid_size=tuple(hw or input_size),
        class_token=has_cls_embed,
    )


REFERENCES = (
    Reference(
        "facebookresearch/mvit:MultiScaleAttention",
        _authors,
        NAMES,
        ignored=("norm_layer", "rel_pos_zero_init"),
        map="b heads q k",
    ),
)
