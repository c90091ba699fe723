"""Style-based recalibration in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "hyunjaelee410/style-based-recalibration-module:SRMLayer",
        lambda channel, reduction=None: dict(channels=channel),
        {"cfc": "weight", "bn": "norm"},
        sizes=lambda s: dict(channel=s["cfc"][0]),
        map="b c 1*",
    ),
)
