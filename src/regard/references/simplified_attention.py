"""Attention without projections in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

REFERENCES = (
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SimplifiedScaledDotProductAttention",
        lambda d_model, h, dropout=0.1: dict(embed_dim=d_model, num_heads=h, dropout=dropout),
        {"fc_o": "out"},
        map="b heads n m",
        legacy=Legacy(
            "attention.SimplifiedSelfAttention",
            "d_model=512, h=8",
            call="Queries",
            keras=LegacyKeras(differs="cannot run with a mask"),
        ),
    ),
)
