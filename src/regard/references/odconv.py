"""ODConv in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _authors(
    in_planes: int,
    out_planes: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    reduction: float = 0.0625,
    kernel_num: int = 4,
    temperature: float = 1.0,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        num_kernels=kernel_num,
        # The rule of that class, a share of the channels, gives the number itself.
        reduction=in_planes,
        min_hidden_dim=max(int(in_planes * reduction), 16),
        temperature=temperature,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _flat(state: dict[str, Tensor], module: nn.Module) -> State:
    """Flatten each kernel to one row."""
    rows = module.get_parameter("mixture.weight").shape
    return {**state, "weight": state["weight"].reshape(rows)}


REFERENCES = (
    Reference(
        "OSVAI/ODConv:ODConv2d",
        _authors,
        {
            "attention.fc": "squeeze",
            "attention.bn": "norm",
            "attention.channel_fc": "weigh.channel",
            "attention.filter_fc": "weigh.filter",
            "attention.spatial_fc": "weigh.spatial",
            "attention.kernel_fc": "weigh.kernel",
            "weight": "mixture.weight",
        },
        adapt=_flat,
        map="channel: b c 1 1, filter: b o 1 1, spatial: b 1 1 1 i j, kernel: b e 1 1 1 1",
    ),
)
