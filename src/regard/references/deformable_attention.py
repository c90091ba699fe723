"""Deformable attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _arguments(
    q_size: Sequence[int],
    n_heads: int,
    n_head_channels: int,
    n_groups: int,
    attn_drop: float,
    proj_drop: float,
    stride: int,
    offset_range_factor: float,
    use_pe: bool,
    dwc_pe: bool,
    no_off: bool,
    fixed_pe: bool,
    ksize: int,
    log_cpb: bool,
) -> Options:
    kind = "table"
    if no_off or not use_pe:
        kind = "none"
    elif dwc_pe:
        kind = "convolution"
    elif fixed_pe:
        kind = "fixed"
    elif log_cpb:
        kind = "mlp"
    return dict(
        channels=n_heads * n_head_channels,
        num_heads=n_heads,
        groups=n_groups,
        stride=stride,
        kernel_size=ksize,
        offset_range=offset_range_factor,
        offsets=not no_off,
        positions=kind,
        size=tuple(q_size),
        return_places=True,
        dropout=attn_drop,
        out_dropout=proj_drop,
    )


def _without_unused(state: dict[str, Tensor], module: nn.Module) -> State:
    """Leave out what the class has but does not use if it does not move its places."""
    if module.arguments["offsets"]:  # type: ignore[index]  # it is ours
        return state
    return {n: t for n, t in state.items() if not n.startswith(("conv_offset.", "rpe_table"))}


REFERENCES = (
    Reference(
        "LeapLabTHU/DAT:DAttentionBaseline",
        _arguments,
        {
            "proj_q": "query",
            "proj_k": "key",
            "proj_v": "value",
            "proj_out": "out",
            "conv_offset.0": "look",
            "conv_offset.1.norm": "look_norm",
            "conv_offset.3": "offset",
            "rpe_table": "positions",
            "rpe_table.weight": "local.weight",
            "rpe_table.bias": "local.bias",
            "rpe_table.0": "position_hidden",
            "rpe_table.2": "position_out",
        },
        ignored=("kv_size", "stage_idx"),
        adapt=_without_unused,
        map="b_heads n m",
    ),
)
