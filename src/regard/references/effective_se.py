"""Effective squeeze-excitation in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "timm:EffectiveSEModule",
        lambda channels: dict(channels=channels),
        {"fc": "excite"},
        fixed=dict(add_maxpool=False, gate_layer="hard_sigmoid"),
        sizes=lambda s: dict(channels=s["fc.weight"][0]),
        map="b c 1 1",
    ),
)
