"""SCSA in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

POOLS = {"avg_pool": "mean", "max_pool": "max"}


def _authors(
    dim: int,
    head_num: int,
    window_size: int = 7,
    group_kernel_sizes: Sequence[int] = (3, 5, 7, 9),
    qkv_bias: bool = False,
    fuse_bn: bool = False,
    norm_cfg: object = None,
    act_cfg: object = None,
    down_sample_mode: str = "avg_pool",
    gate_layer: str = "sigmoid",
) -> Options:
    if down_sample_mode not in POOLS:  # the authors' class cannot run then
        raise ValueError(
            f"SCSA: down_sample_mode must be one of {', '.join(POOLS)}, got {down_sample_mode!r}"
        )
    return dict(
        channels=dim,
        num_heads=head_num,
        window_size=None if window_size == -1 else window_size,
        kernel_sizes=tuple(group_kernel_sizes),
        qkv_bias=qkv_bias,
        pool=POOLS[down_sample_mode],
        gate=gate_layer,
    )


def _stacked(state: dict[str, Tensor], module: nn.Module) -> State:
    """Stack the weights of q, k and v."""
    import torch

    kept = {n: t for n, t in state.items() if n.partition(".")[0] not in ("q", "k", "v")}
    for name in ("weight", "bias"):
        if f"q.{name}" in state:
            kept[name] = torch.stack([state[f"{layer}.{name}"].flatten() for layer in "qkv"])
    return kept


def _sizes(shapes: Shapes) -> Options:
    names = ("local_dwc", "global_dwc_s", "global_dwc_m", "global_dwc_l")
    return dict(
        dim=shapes["norm.weight"][0],
        group_kernel_sizes=tuple(shapes[f"{name}.weight"][2] for name in names),
        qkv_bias="q.bias" in shapes,
    )


REFERENCES = (
    Reference(
        "HZAI-ZJNU/SCSA:SCSA",
        _authors,
        {
            "local_dwc": "strips.0",
            "global_dwc_s": "strips.1",
            "global_dwc_m": "strips.2",
            "global_dwc_l": "strips.3",
        },
        fixed=dict(attn_drop_ratio=0.0),
        adapt=_stacked,
        sizes=_sizes,
        map="h: b c h, w: b c w, channel: b c 1 1",
    ),
)
