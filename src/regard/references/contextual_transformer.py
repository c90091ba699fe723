"""Contextual transformer layers in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

NAMES = {
    "key_embed": "near",
    "embed": "look",
    "conv1x1": "value",
    "bn": "norm",
    "se.0": "squeeze",
    "se.1": "squeeze_norm",
    "se.3": "select",
}

REFERENCES = (
    Reference(
        "JDAI-CV/CoTNet:CotLayer",
        lambda dim, kernel_size: dict(channels=dim, kernel_size=kernel_size),
        NAMES,
        map="b c k",
    ),
    Reference(
        "JDAI-CV/CoTNet:CoXtLayer",
        lambda dim, kernel_size: dict(
            channels=dim, kernel_size=kernel_size, groups=8, projection_groups=2
        ),
        NAMES,
        map="b c k",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CoTAttention",
        lambda dim=512, kernel_size=3: dict(channels=dim, kernel_size=kernel_size),
        differs=(
            "averages each position's kernel, takes a softmax over the image and sees no neighbors"
        ),
        loads=False,
        legacy=Legacy("attention.CoTAttention", "dim=512, kernel_size=3"),
    ),
)
