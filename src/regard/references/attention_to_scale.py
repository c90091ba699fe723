"""Attention to scale, as written from its equations."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "equations",
        lambda feat_channels, scales, hidden, align_corners=True: dict(
            channels=feat_channels,
            num_scales=scales,
            hidden_dim=hidden,
            align_corners=align_corners,
        ),
        {"conv1": "look", "conv2": "score"},
        map="b s h w",
    ),
)
