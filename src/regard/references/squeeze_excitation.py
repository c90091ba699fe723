"""Squeeze-and-excitation in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Options, Reference, Shapes

LAYERS = {"fc.0": "squeeze", "fc.2": "excite"}
CONVOLUTIONS = {"fc1": "squeeze", "fc2": "excite"}


def _sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["fc.0.weight"]
    return dict(channel=channels, reduction=channels // hidden)


def _timm_sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["fc1.weight"][:2]
    return dict(channels=channels, rd_channels=hidden, bias="fc1.bias" in shapes)


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
