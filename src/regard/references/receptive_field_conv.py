"""Receptive-field attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _normed(shapes: Shapes) -> bool:
    """Return whether a norm follows the convolution: the files for classification have none."""
    return "conv.1.weight" in shapes


def _group(
    shapes: Shapes, in_channel: int, out_channel: int, kernel_size: int = 3, stride: int = 1
) -> Options:
    return dict(
        in_channels=in_channel,
        out_channels=out_channel,
        kernel_size=kernel_size,
        stride=stride,
        norm=_normed(shapes),
    )


def _cbam(
    shapes: Shapes,
    in_channel: int,
    out_channel: int,
    kernel_size: int = 3,
    stride: int = 1,
    dilation: int = 1,
) -> Options:
    return {**_group(shapes, in_channel, out_channel, kernel_size, stride), "form": "cbam"}


def _coordinate(
    inp: int, oup: int, kernel_size: int, stride: int = 1, reduction: int = 32
) -> Options:
    return dict(
        in_channels=inp,
        out_channels=oup,
        kernel_size=kernel_size,
        stride=stride,
        form="coordinate",
        reduction=reduction,
    )


def _unfold(shapes: Shapes, in_channel: int, out_channel: int, kernel_size: int = 3) -> Options:
    return dict(
        in_channels=in_channel,
        out_channels=out_channel,
        kernel_size=kernel_size,
        form="unfold",
        norm=sum(name.endswith("running_mean") for name in shapes) > 1,
    )


def _unnumbered(state: dict[str, Tensor], module: nn.Module) -> State:
    """Call the convolution so, if a norm follows it in a sequence or not."""
    return {name.replace("conv.0.", "conv."): t for name, t in state.items()}


def _by_shape(state: dict[str, Tensor], module: nn.Module) -> State:
    """Name the layers of the unfolded form by their shapes: each of the four has its own."""
    places = module.get_parameter("weigh.weight").shape[0]
    renamed = {}
    for name, tensor in state.items():
        layer, _, entry = name.rpartition(".")
        weight = state[f"{layer}.weight"]
        if weight.dim() == 4:
            ours = "weigh" if weight.shape[2:] == (1, 1) and len(weight) == places else "conv"
        else:
            ours = "weigh_norm" if len(weight) == places else "norm"
        renamed[f"{ours}.{entry}"] = tensor
    return renamed


FEATURES = {"conv.1": "norm", "generate_feature": "features", "generate": "features"}

REFERENCES = (
    Reference(
        "Liuchen1997/RFAConv:RFAConv",
        _group,
        {**FEATURES, "get_weight.1": "weigh"},
        adapt=_unnumbered,
        map="b c k y x",
    ),
    Reference(
        "Liuchen1997/RFAConv:RFAConv",  # the second class of that name
        _unfold,
        adapt=_by_shape,
        map="b c y x k",
    ),
    Reference(
        "Liuchen1997/RFAConv:RFCBAMConv",
        _cbam,
        {**FEATURES, "se.fc.0": "squeeze", "se.fc.2": "excite", "get_weight.0": "look"},
        fixed=dict(dilation=1),
        adapt=_unnumbered,
        map="channel: b c 1 1, spatial: b 1 u v",
    ),
    Reference(
        "Liuchen1997/RFAConv:RFCAConv",
        _coordinate,
        {
            **FEATURES,
            "conv1": "shared",
            "bn1": "shared_norm",
            "conv_h": "height",
            "conv_w": "width",
        },
        adapt=_unnumbered,
        map="h: b c u 1, w: b c 1 v",
    ),
)
