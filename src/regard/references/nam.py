"""Normalization-based attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "Christian-lyc/NAM:Att",
        lambda channels, shape=None, out_channels=None, no_spatial=True: dict(channels=channels),
        {"Channel_Att.bn2": "norm", "bn2": "norm"},
        map="b c *",
    ),
)
