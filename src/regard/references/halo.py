"""Halo attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _lucidrains(
    *, dim: int, block_size: int, halo_size: int, dim_head: int = 64, heads: int = 8
) -> Options:
    return dict(
        channels=dim,
        num_heads=heads,
        block_size=block_size,
        halo_size=halo_size,
        head_dim=dim_head,
        value_head_dim=dim_head,
        scale_positions=True,
        mask_padding=True,
        out_proj=True,
    )


def _timm(
    dim: int,
    dim_out: int | None = None,
    stride: int = 1,
    num_heads: int = 8,
    dim_head: int | None = None,
    block_size: int = 8,
    halo_size: int = 3,
    qk_ratio: float = 1.0,
    qkv_bias: bool = False,
    avg_down: bool = False,
    scale_pos_embed: bool = False,
) -> Options:
    if stride > 1 and (avg_down or block_size % stride):
        raise ValueError(
            "HaloAttn: timm averages what all queries have read when avg_down is set or the stride "
            "does not divide the block; here the stride is that of the queries: load with "
            "stride=1, and put torch.nn.AvgPool2d(2) after it"
        )
    width = dim_out or dim
    # timm rounds the channels of the keys to multiples of eight.
    keys = dim_head or max(8, int(width * qk_ratio + 4) // 8 * 8) // num_heads
    return dict(
        channels=dim,
        num_heads=num_heads,
        block_size=block_size,
        halo_size=halo_size,
        head_dim=keys,
        value_head_dim=width // num_heads,
        stride=stride,
        bias=qkv_bias,
        scale_positions=scale_pos_embed,
    )


def _keys_first(state: dict[str, Tensor], module: nn.Module) -> State:
    """Move the keys of all heads before the values; in timm they alternate by head."""
    import torch

    rows = state["pos_embed.height_rel"].shape[1]  # channels of the keys of a head
    heads = len(state["q.weight"]) // rows
    for name in {"kv.weight", "kv.bias"} & state.keys():
        by_head = state[name].unflatten(0, (heads, -1))
        state[name] = torch.cat([t.flatten(0, 1) for t in by_head.tensor_split([rows], 1)])
    return state


REFERENCES = (
    Reference(
        "lucidrains/halonet-pytorch:HaloAttention",
        _lucidrains,
        {
            "to_q": "query",
            "to_kv": "key_value",
            "to_out": "out",
            "rel_pos_emb.rel_height": "rows",
            "rel_pos_emb.rel_width": "columns",
        },
    ),
    Reference(
        "timm:HaloAttn",
        _timm,
        {
            "q": "query",
            "kv": "key_value",
            "pos_embed.height_rel": "rows",
            "pos_embed.width_rel": "columns",
        },
        ignored=("feat_size",),
        adapt=_keys_first,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:HaloAttention",
        _lucidrains,
        differs="masks the image and not what is around it, so that blocks average their values",
        loads=False,
        legacy=Legacy("attention.HaloAttention", "dim=512, block_size=2, halo_size=1"),
    ),
)
