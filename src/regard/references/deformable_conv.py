"""Deformable convolution in other people's code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

Sizes = int | Sequence[int]
KINDS = ("weight", "bias")


def _mmcv(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = True,
) -> Options:
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        offset_groups=deform_groups,
        bias=bias,
    )


def _torchvision(
    shapes: Shapes,
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    *,
    offset_groups: int = 1,
) -> Options:
    """Translate the layer, with the convolutions for its offsets and masks if the state has any."""
    entries = offset_groups * math.prod(shapes["weight"][2:])
    rows = sum(shapes.get(f"{name}.bias", (0,))[0] for name in ("offset", "mask"))
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=tuple(shapes["weight"][2:]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        offset_groups=offset_groups,
        modulator="sigmoid" if rows == 3 * entries else None,
        bias=bias,
    )


def _developer0hye(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes = 3,
    stride: Sizes = 1,
    padding: Sizes = 1,
    dilation: Sizes = 1,
    bias: bool = False,
) -> Options:
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        modulator="doubled",
        bias=bias,
    )


def _joined(state: dict[str, Tensor], module: nn.Module, parts: Sequence[str]) -> State:
    """Concatenate the convolutions for the offsets and the masks."""
    import torch

    for kind in KINDS:
        found = [state.pop(f"{part}.{kind}") for part in parts if f"{part}.{kind}" in state]
        if not found:  # torchvision's layer alone: zero offsets
            state[f"place.{kind}"] = torch.zeros_like(module.get_parameter(f"place.{kind}"))
        else:
            state[f"place.{kind}"] = torch.cat(found)
    return state


REFERENCES = (
    Reference(
        "mmcv:ModulatedDeformConv2dPack",
        _mmcv,
        {"conv_offset": "place", "weight": "conv.weight", "bias": "conv.bias"},
    ),
    Reference(
        "torchvision:DeformConv2d",
        _torchvision,
        {"weight": "conv.weight", "bias": "conv.bias"},
        adapt=partial(_joined, parts=("offset", "mask")),
    ),
    Reference(
        "developer0hye/PyTorch-Deformable-Convolution-v2:DeformableConv2d",
        _developer0hye,
        {"regular_conv": "conv"},
        adapt=partial(_joined, parts=("offset_conv", "modulator_conv")),
    ),
    Reference(
        "equations",
        lambda in_channels, out_channels, kernel_size, stride, padding, bias: {
            **_developer0hye(in_channels, out_channels, kernel_size, stride, padding, 1, bias),
            "modulator": None,
        },
        {"regular_conv": "conv"},
        adapt=partial(_joined, parts=("offset_conv",)),
    ),
)
