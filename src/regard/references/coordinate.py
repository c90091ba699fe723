"""Coordinate attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

LAYERS = {"conv1": "shared", "bn1": "norm", "conv_h": "height", "conv_w": "width"}


def _authors(inp: int, oup: int, reduction: int = 32) -> Options:
    if inp != oup:  # the authors' class cannot run then
        raise ValueError(f"CoordAtt: oup ({oup}) must equal inp ({inp}): the gates weigh the input")
    return dict(channels=inp, reduction=reduction)


def _sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["conv1.weight"][:2]
    return dict(inp=channels, oup=channels, reduction=max(channels // hidden, 1))


def _with_biases(state: dict[str, Tensor], module: nn.Module) -> State:
    """Add zeros for biases, which timm's layers lack by default."""
    for name in ("conv1", "conv_h", "conv_w"):
        weight = state[f"{name}.weight"]
        state.setdefault(f"{name}.bias", weight.new_zeros(len(weight)))
    return state


REFERENCES = (
    Reference(
        "houqb/CoordAttention:CoordAtt",
        _authors,
        LAYERS,
        sizes=_sizes,
        map="h: b c h 1, w: b c 1 w",
    ),
    Reference(
        "timm:CoordAttn",
        lambda channels, rd_channels: dict(
            channels=channels, reduction=channels, min_hidden_dim=rd_channels
        ),
        LAYERS,
        fixed=dict(
            act_layer="hardswish", norm_layer="batchnorm2d", gate_layer="sigmoid", has_skip=False
        ),
        ignored=("rd_ratio", "rd_divisor", "se_factor", "bias"),
        sizes=lambda s: dict(channels=s["conv1.weight"][1], rd_channels=s["conv1.weight"][0]),
        adapt=_with_biases,
        map="h: b c h 1, w: b c 1 w",
    ),
    Reference(
        "timm:SimpleCoordAttn",
        differs="has no norm, and one gate for the sum of the row's and the column's score",
        loads=False,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CoordAtt",
        _authors,
        LAYERS,
        sizes=_sizes,
        map="h: b c h 1, w: b c 1 w",
        legacy=Legacy("attention.CoordAttention", "inp=96, oup=96, reduction=32"),
    ),
)
