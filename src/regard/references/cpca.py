"""CPCA in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes


def _authors(in_channels: int, out_channels: int, channelAttention_reduce: int = 4) -> Options:
    if in_channels != out_channels:  # the authors' class cannot run then
        raise ValueError(
            f"RepBlock: out_channels ({out_channels}) must equal in_channels ({in_channels}): one "
            "convolution stands before and after"
        )
    return dict(channels=in_channels, reduction=channelAttention_reduce)


def _sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["ca.fc1.weight"][:2]
    return dict(
        in_channels=channels, out_channels=channels, channelAttention_reduce=channels // hidden
    )


REFERENCES = (
    Reference(
        "Cuthbert-Huang/CPCANet:RepBlock",
        _authors,
        {
            "conv": "mix",
            "ca.fc1": "squeeze",
            "ca.fc2": "excite",
            "dconv5_5": "near",
            "dconv1_7": "strips.0.0",
            "dconv7_1": "strips.0.1",
            "dconv1_11": "strips.1.0",
            "dconv11_1": "strips.1.1",
            "dconv1_21": "strips.2.0",
            "dconv21_1": "strips.2.1",
        },
        sizes=_sizes,
        map="channel: b c 1 1, spatial: b c h w",
    ),
)
