"""The gated channel transformation in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "z-x-yang/GCT:GCT",
        lambda num_channels, epsilon=1e-5, mode="l2", after_relu=False: dict(
            channels=num_channels, p={"l2": 2, "l1": 1}[mode], after_relu=after_relu, eps=epsilon
        ),
        sizes=lambda s: dict(num_channels=s["alpha"][1]),
        map="b c 1*",
    ),
)
