"""Split attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.check import per_axis
from .record import Options, Reference, Shapes

Sizes = int | Sequence[int]
LAYERS = {
    "conv": "split.0",
    "bn0": "split.1",
    "fc1": "squeeze",
    "bn1": "norm",
    "fc2": "excite",
}


def _authors(
    shapes: Shapes,
    in_channels: int,
    channels: int,
    kernel_size: Sizes,
    stride: Sizes = 1,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = True,
    radix: int = 2,
) -> Options:
    return dict(
        in_channels=in_channels,
        out_channels=channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        radix=radix,
        hidden_dim=shapes["fc1.weight"][0],
        bias=bias,
        norm="bn1.weight" in shapes,
    )


def _timm(
    shapes: Shapes,
    in_channels: int,
    out_channels: int | None = None,
    kernel_size: Sizes = 3,
    stride: Sizes = 1,
    padding: Sizes | None = None,
    dilation: Sizes = 1,
    groups: int = 1,
    bias: bool = False,
    radix: int = 2,
) -> Options:
    if padding is None:  # timm's default, which ignores the dilation
        padding = [side // 2 for side in per_axis(2, 1, kernel_size=kernel_size)]
    geometry = (kernel_size, stride, padding, dilation, groups, bias, radix)
    return _authors(shapes, in_channels, out_channels or in_channels, *geometry)


REFERENCES = (
    Reference(
        "zhanghang1989/ResNeSt:SplAtConv2d",
        _authors,
        LAYERS,
        fixed=dict(rectify=False, dropblock_prob=0.0),
        ignored=("reduction_factor", "rectify_avg", "norm_layer"),
        map="b r groups o",
    ),
    Reference(
        "timm:SplitAttn",
        _timm,
        LAYERS,
        fixed=dict(act_layer="relu", drop_layer=None, drop_block=None),
        ignored=("rd_ratio", "rd_channels", "rd_divisor", "norm_layer"),
        map="b r_o",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SplitAttention",
        differs="makes no splits, but weighs the three shifted maps that an S2-MLP hands it",
        loads=False,
    ),
)
