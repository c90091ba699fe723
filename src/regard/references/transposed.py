"""Transposed attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "swz30/Restormer:Attention",
        lambda dim, num_heads, bias: dict(channels=dim, num_heads=num_heads, bias=bias),
        {"qkv_dwconv": "mix", "project_out": "out"},
        map="b heads d d",
    ),
)
