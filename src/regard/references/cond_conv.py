"""CondConv in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.check import per_axis
from .record import Legacy, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

Sizes = int | Sequence[int]


def _timm(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes = 3,
    stride: Sizes = 1,
    padding: Sizes | str = "",
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = False,
    num_experts: int = 4,
) -> Options:
    """Translate timm's version of the authors' layer, together with the routing of its block."""
    if padding == "":  # in timm, the padding grows with the stride
        sides = (per_axis(2, 1, it=n) for n in (kernel_size, stride, dilation))
        padding = [(s - 1 + d * (k - 1)) // 2 for k, s, d in zip(*sides, strict=True)]
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        num_experts=num_experts,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def _nibuiro(
    in_channels: int,
    out_channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    num_experts: int = 3,
    dropout_rate: float = 0.2,
) -> Options:
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        num_experts=num_experts,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
        mix_bias=False,
        dropout=dropout_rate,
    )


def _xmu(
    in_planes: int,
    out_planes: int,
    kernel_size: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
    grounps: int = 1,
    bias: bool = True,
    K: int = 4,
    init_weight: bool = True,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        num_experts=K,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=grounps,  # the spelling of that class
        bias=bias,
        route_bias=False,
    )


def _flat(state: dict[str, Tensor], module: nn.Module) -> State:
    """Flatten each kernel to one row."""
    name = "conv.weight" if "conv.weight" in state else "weight"
    return {**state, name: state[name].reshape(module.get_parameter("mixture.weight").shape)}


REFERENCES = (
    Reference(
        "tensorflow/tpu",
        _timm,
        {"conv": "mixture", "routing_fn": "route"},
        fixed=dict(padding_mode="zeros"),
        adapt=_flat,
        map="b e",
    ),
    Reference(
        "nibuiro/CondConv-pytorch:CondConv2D",
        _nibuiro,
        {"_routing_fn.fc": "route", "weight": "mixture.weight", "bias": "mixture.bias"},
        fixed=dict(padding_mode="zeros"),
        adapt=_flat,
        map="b e",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CondConv",
        _xmu,
        {"attention.net": "route", "weight": "mixture.weight", "bias": "mixture.bias"},
        adapt=_flat,
        map="b e",
        legacy=Legacy(
            "conv.CondConv",
            "in_planes=32, out_planes=64, kernel_size=3, stride=1, padding=1, bias=False",
        ),
    ),
)
