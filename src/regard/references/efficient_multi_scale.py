"""Efficient multi-scale attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "YOLOonMe/EMA-attention-module:EMA",
        lambda channels, factor=32: dict(channels=channels, groups=factor),
        {"conv1x1": "strips", "conv3x3": "around", "gn": "norm"},
        ignored=("c2",),
        map="b_g 1 h w",
    ),
)
