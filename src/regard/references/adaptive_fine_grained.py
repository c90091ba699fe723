"""Adaptive fine-grained channel attention in other people's code."""

from __future__ import annotations

from ..core.adaptive_kernel import adaptive_kernel
from .record import Options, Reference


def _authors(channel: int, b: float = 1, gamma: float = 2) -> Options:
    return dict(channels=channel, kernel_size=adaptive_kernel(channel, gamma, b))


REFERENCES = (
    Reference(
        "Lose-Code/UBRFC-Net:Attention",
        _authors,
        {"conv1": "near", "fc": "whole", "mix.w": "weight"},
        map="b c 1 1",
    ),
)
