"""Axial attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _attention(
    dim: int,
    num_dimensions: int = 2,
    heads: int = 8,
    dim_heads: int | None = None,
    dim_index: int = -1,
    sum_axial_out: bool = True,
) -> Options:
    compose = "sum" if sum_axial_out else "chain"
    return dict(
        channels=dim, num_heads=heads, dims=num_dimensions, head_dim=dim_heads, compose=compose
    )


def _transformer(
    dim: int,
    depth: int,
    heads: int = 8,
    dim_heads: int | None = None,
    dim_index: int = 1,
    reversible: bool = True,
    axial_pos_emb_shape: tuple[int, int] | None = None,
) -> Options:
    if dim_index != 1:  # the convolutions of that class cannot run on another axis
        raise ValueError(f"AxialImageTransformer: dim_index must be 1, got {dim_index}")
    return dict(
        channels=dim,
        depth=depth,
        num_heads=heads,
        head_dim=dim_heads,
        input_size=axial_pos_emb_shape,
        reversible=reversible,
    )


def _position_sensitive(
    in_planes: int,
    out_planes: int,
    groups: int = 8,
    kernel_size: int = 56,
    stride: int = 1,
    bias: bool = False,
    width: bool = False,
) -> Options:
    if bias:
        raise ValueError("AxialAttention: bias must be False, as its code asserts")
    return dict(
        channels=in_planes,
        num_heads=groups,
        axis_size=kernel_size,
        axis="w" if width else "h",
        out_channels=out_planes,
        stride=stride,
    )


def _layers(state: dict[str, Tensor], module: nn.Module) -> State:
    """Concatenate the projections of queries, keys and values of each layer."""
    import torch

    for name in list(state):
        if name.endswith("to_q.weight"):
            both = [state.pop(name), state.pop(name.replace("to_q", "to_kv"))]
            state[name.replace("to_q", "qkv")] = torch.cat(both)
    return state


def _blocks(state: dict[str, Tensor], module: nn.Module) -> State:
    """Number the layers of the network: two blocks, each of two axes or two layers."""
    parts = ("f.net", "g.net") if any(".f.net." in name for name in state) else ("0", "1")
    moved = {}
    for name, tensor in _layers(state, module).items():
        for half, part in enumerate(parts):
            head, found, rest = name.partition(f".{part}.")
            stem, _, block = head.rpartition(".")
            if found and stem == "layers.blocks":
                name = f"layers.{2 * int(block) + half}.{rest}"
                break
        moved[name] = tensor
    return moved


REFERENCES = (
    Reference(
        "lucidrains/axial-attention:AxialAttention",
        _attention,
        {
            "axial_attentions.*.fn": "along.*",
            "axial_attentions.*.fn.to_out": "along.*.out",
        },
        adapt=_layers,
    ),
    Reference(
        "csrhddlam/axial-deeplab:AxialAttention",
        _position_sensitive,
        {
            "qkv_transform": "qkv",
            "relative": "positions",
            "bn_qkv": "norm_qkv",
            "bn_similarity": "norm_scores",
            "bn_output": "norm_sums",
        },
        builds="PositionSensitiveAxial",
        unread=("flatten_index",),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:AxialAttention",
        _attention,
        {
            "axial_attentions.*.fn": "along.*",
            "axial_attentions.*.fn.to_out": "along.*.out",
        },
        adapt=_layers,
        legacy=Legacy(
            "attention.Axial_attention",
            "dim=128, dim_index=1, heads=8, num_dimensions=2",
            call="DimIndex",
        ),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:AxialImageTransformer",
        _transformer,
        {
            "pos_emb.param_0": "rows",
            "pos_emb.param_1": "columns",
            "layers.*.fn.norm": "layers.*.norm",
            "layers.*.fn.fn": "layers.*.axial.along.0",
            "layers.*.fn.fn.to_out": "layers.*.axial.along.0.out",
            "layers.*.0.g": "layers.*.0.weight",
            "layers.*.0.b": "layers.*.0.bias",
        },
        builds="AxialTransformer",
        adapt=_blocks,
        legacy=Legacy("attention.Axial_attention", "dim=128, depth=12, reversible=True"),
    ),
)
