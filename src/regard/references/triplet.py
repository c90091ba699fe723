"""Triplet attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

LAYERS = {"*.conv.conv": "*.0", "*.conv.bn": "*.1"}

REFERENCES = (
    Reference(
        "landskape-ai/triplet-attention:TripletAttention",
        lambda no_spatial=False: dict(spatial=not no_spatial),
        LAYERS,
        ignored=("gate_channels", "reduction_ratio", "pool_types"),
        sizes=lambda s: dict(no_spatial="hw.conv.conv.weight" not in s),
        map="cw: b 1 c w, hc: b 1 h c, hw: b 1 h w",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:TripletAttention",
        lambda no_spatial=False: dict(spatial=not no_spatial),
        LAYERS,
        sizes=lambda s: dict(no_spatial="hw.conv.conv.weight" not in s),
        map="cw: b 1 c w, hc: b 1 h c, hw: b 1 h w",
        legacy=Legacy("attention.TripletAttention"),
    ),
)
