"""Shuffle attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

LAYERS = {
    "cweight": "channel_weight",
    "cbias": "channel_bias",
    "gn": "norm",
    "sweight": "spatial_weight",
    "sbias": "spatial_bias",
}

REFERENCES = (
    Reference(
        "wofmanaf/SA-Net:sa_layer",
        lambda channel, groups=64: dict(channels=channel, groups=groups),
        LAYERS,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ShuffleAttention",
        lambda channel=512, reduction=16, G=8: dict(channels=channel, groups=G),
        LAYERS,
        legacy=Legacy(
            "attention.ShuffleAttention",
            "channel=512, G=8",
            keras=LegacyKeras(differs="cuts groups out of rows and columns instead of channels"),
        ),
    ),
)
