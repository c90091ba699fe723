"""Squeeze-and-excitation in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .record import Legacy, LegacyKeras, Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import nn

LAYERS = {"fc.0": "squeeze", "fc.2": "excite"}
CONVOLUTIONS = {"fc1": "squeeze", "fc2": "excite"}


def _sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["fc.0.weight"]
    return dict(channel=channels, reduction=channels // hidden)


def _timm_sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["fc1.weight"][:2]
    return dict(channels=channels, rd_channels=hidden, bias="fc1.bias" in shapes)


def _residual(options: Options) -> nn.Module:
    from ..mechanisms._residual_channel import ResidualChannelBlock  # it imports torch

    return ResidualChannelBlock(**options)


def _rcan(
    n_feat: int, kernel_size: int, reduction: int, bias: bool = True, bn: bool = False
) -> dict[str, Any]:
    return dict(channels=n_feat, kernel_size=kernel_size, reduction=reduction, bias=bias, norm=bn)


def _basicsr(num_feat: int, squeeze_factor: int = 16, res_scale: float = 1) -> dict[str, Any]:
    return dict(channels=num_feat, reduction=squeeze_factor, scale=res_scale)


REFERENCES = (
    Reference(
        "moskomule/senet.pytorch:SELayer",
        lambda channel, reduction=16: dict(channels=channel, reduction=reduction),
        LAYERS,
        sizes=_sizes,
        map="b c",
    ),
    Reference(
        "torchvision:SqueezeExcitation",
        lambda input_channels, squeeze_channels: dict(
            channels=input_channels, hidden_dim=squeeze_channels, bias=True
        ),
        CONVOLUTIONS,
        fixed=dict(activation="relu", scale_activation="sigmoid"),
        sizes=lambda s: dict(
            input_channels=s["fc1.weight"][1], squeeze_channels=s["fc1.weight"][0]
        ),
        map="b c 1*",
    ),
    Reference(
        "timm:SEModule",
        lambda channels, rd_channels=None, bias=True: dict(
            channels=channels, hidden_dim=rd_channels, bias=bias
        ),
        CONVOLUTIONS,
        fixed=dict(act_layer="relu", gate_layer="sigmoid", norm_layer=None, add_maxpool=False),
        ignored=("rd_ratio", "rd_divisor"),
        sizes=_timm_sizes,
        map="b c 1*",
    ),
    Reference(
        "timm:SqueezeExcite",
        lambda channels, rd_channels=None, bias=True: dict(
            channels=channels, hidden_dim=rd_channels, bias=bias
        ),
        CONVOLUTIONS,
        fixed=dict(act_layer="relu", gate_layer="sigmoid", norm_layer=None, add_maxpool=False),
        ignored=("rd_ratio", "rd_divisor"),
        sizes=_timm_sizes,
        map="b c 1*",
    ),
    Reference(
        "yulunzhang/RCAN:CALayer",
        lambda channel, reduction=16: dict(channels=channel, reduction=reduction, bias=True),
        {"conv_du.0": "squeeze", "conv_du.2": "excite"},
        map="b c 1*",
    ),
    Reference(
        "yulunzhang/RCAN:RCAB",
        _rcan,
        {"body.*.conv_du.0": "body.*.squeeze", "body.*.conv_du.2": "body.*.excite"},
        builds=_residual,
        fixed=dict(act="relu"),
        ignored=("conv", "res_scale"),
        map="b c 1*",
    ),
    Reference(
        "XPixelGroup/BasicSR:RCAB",
        _basicsr,
        {
            "rcab.0": "body.0",
            "rcab.2": "body.2",
            "rcab.3.attention.1": "body.3.squeeze",
            "rcab.3.attention.3": "body.3.excite",
        },
        builds=_residual,
        map="b c 1*",
    ),
    Reference(
        "timm:EffectiveSEModule",
        differs="has one layer, as wide as its input",
        loads=False,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SEAttention",
        lambda channel=512, reduction=16: dict(channels=channel, reduction=reduction),
        LAYERS,
        sizes=_sizes,
        map="b c 1*",
        legacy=Legacy("attention.SEAttention", "channel=512, reduction=8", keras=LegacyKeras()),
    ),
)
