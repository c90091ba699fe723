"""Spatial group-wise enhance in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

REFERENCES = (
    Reference(
        "implus/PytorchInsight:SpatialGroupEnhance",
        lambda groups=64: dict(groups=groups),
        sizes=lambda s: dict(groups=s["weight"][1]),
        map="b_g 1 h w",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SpatialGroupEnhance",
        lambda groups: dict(groups=groups),
        sizes=lambda s: dict(groups=s["weight"][1]),
        map="b_g 1 h w",
        legacy=Legacy(
            "attention.SGE",
            "groups=8",
            keras=LegacyKeras(differs="cuts groups out of rows and columns instead of channels"),
        ),
    ),
)
