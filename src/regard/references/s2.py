"""Spatial-shift attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

LAYERS = {
    "mlp1": "expand",
    "mlp2": "out",
    "split_attention.mlp1": "squeeze",
    "split_attention.mlp2": "select",
}

REFERENCES = (
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:S2Attention, shifts made out of place",
        lambda channels=512: dict(channels=channels),
        LAYERS,
        map="b k c",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:S2Attention",
        lambda channels=512: dict(channels=channels),
        differs="shifts in place, which smears the border over the image, and has 512 channels",
        loads=False,
        legacy=Legacy("attention.S2Attention", "channels=512"),
    ),
)
