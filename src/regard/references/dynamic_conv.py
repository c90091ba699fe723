"""Dynamic convolution in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _kaijieshi7(
    shapes: Shapes,
    in_planes: int,
    out_planes: int,
    kernel_size: int,
    ratio: float = 0.25,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = True,
    K: int = 4,
    temperature: float = 34,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        num_kernels=K,
        dims=len(shapes["weight"]) - 3,
        hidden_dim=shapes["attention.fc1.weight"][0],
        temperature=temperature,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
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
    temprature: float = 30,
    ratio: int = 4,
    init_weight: bool = True,
) -> Options:
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        kernel_size=kernel_size,
        num_kernels=K,
        hidden_dim=in_planes // ratio,
        temperature=temprature,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=grounps,
        bias=bias,
        score_bias=False,
    )


def _flat(state: dict[str, Tensor], module: nn.Module) -> State:
    """Flatten each kernel to one row."""
    rows = module.get_parameter("mixture.weight").shape
    return {**state, "weight": state["weight"].reshape(rows)}


MIXTURE = {"weight": "mixture.weight", "bias": "mixture.bias"}

REFERENCES = (
    Reference(
        "kaijieshi7/Dynamic-convolution-Pytorch",
        _kaijieshi7,
        {"attention.fc1": "squeeze", "attention.fc2": "select", **MIXTURE},
        ignored=("init_weight",),
        adapt=_flat,
        map="b k",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:DynamicConv",
        _xmu,
        {"attention.net.0": "squeeze", "attention.net.2": "select", **MIXTURE},
        adapt=_flat,
        map="b k",
        legacy=Legacy(
            "conv.DynamicConv",
            "in_planes=32, out_planes=64, kernel_size=3, stride=1, padding=1, bias=False",
            call="Annealed",
        ),
    ),
)
