"""Neighborhood attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _arguments(
    dim: int,
    num_heads: int,
    kernel_size: int,
    dilation: int = 1,
    bias: bool = True,
    qkv_bias: bool = True,
    qk_scale: float | None = None,
    attn_drop: float = 0.0,
    proj_drop: float = 0.0,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        kernel_size=kernel_size,
        dilation=dilation or 1,
        positions=bias,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _flat(state: dict[str, Tensor], module: nn.Module) -> State:
    """Give the table one axis for the distances along all axes."""
    if "rpb" in state:
        state["rpb"] = state["rpb"].flatten(1)
    return state


REFERENCES = (
    Reference(
        "SHI-Labs/NATTEN:NeighborhoodAttention2D",
        _arguments,
        {"qkv": ("query", "key", "value"), "rpb": "positions", "proj": "out"},
        adapt=_flat,
        map="b heads h w k",
    ),
)
