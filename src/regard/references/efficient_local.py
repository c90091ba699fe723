"""Efficient local attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _ported(
    channel: int, kernel_size: int = 7, conv_groups: int | None = None, norm_groups: int = 16
) -> Options:
    return dict(
        channels=channel, kernel_size=kernel_size, groups=conv_groups, norm_groups=norm_groups
    )


def _timm(
    channels: int, kernel_size: int = 7, bias: bool = False, has_skip: bool = False
) -> Options:
    return dict(channels=channels, kernel_size=kernel_size, bias=bias, residual=has_skip)


REFERENCES = (
    Reference(
        "AIFengheshu/Plug-play-modules:EfficientLocalizationAttention",
        _ported,
        {"conv": "height.0", "gn": "height.1"},
        sizes=lambda s: dict(channel=s["conv.weight"][0], kernel_size=s["conv.weight"][2]),
        map="h: b c h, w: b c w",
    ),
    Reference(
        "timm:EfficientLocalAttn",
        _timm,
        {"conv_h": "height.0", "norm_h": "height.1", "conv_w": "width.0", "norm_w": "width.1"},
        fixed=dict(act_layer="silu", gate_layer="sigmoid", norm_layer="groupnorm1"),
        sizes=lambda s: dict(channels=s["conv_h.weight"][0], kernel_size=s["conv_h.weight"][2]),
        map="h: b c h 1, w: b c 1 w",
        differs="has a convolution and a norm of one group for each direction, and a SiLU",
        before=dict(shared=False, norm_groups=1, activation=True),
    ),
)
