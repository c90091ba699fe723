"""Project-and-excite in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "ai-med/squeeze_and_excitation:ProjectExciteLayer",
        lambda num_channels, reduction_ratio=2: dict(
            channels=num_channels, reduction=reduction_ratio
        ),
        {"conv_c": "squeeze", "conv_cT": "excite"},
        ignored=("D", "H", "W"),
        sizes=lambda s: dict(
            num_channels=s["conv_c.weight"][1],
            reduction_ratio=s["conv_c.weight"][1] // s["conv_c.weight"][0],
        ),
        map="b c t h w",
    ),
)
