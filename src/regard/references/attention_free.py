"""Attention-free layers in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

LAYERS = {"to_q": "query", "to_k": "key", "to_v": "value", "project": "out"}

REFERENCES = (
    Reference(
        "rish-16/aft-pytorch:AFTFull",
        lambda max_seqlen, dim, hidden_dim=64: dict(
            embed_dim=dim, max_length=max_seqlen, hidden_dim=hidden_dim
        ),
        {**LAYERS, "wbias": "rows"},
        sizes=lambda s: dict(
            max_seqlen=s["wbias"][0], dim=s["to_q.weight"][1], hidden_dim=s["to_q.weight"][0]
        ),
    ),
    Reference(
        "rish-16/aft-pytorch:AFTSimple",
        lambda dim, hidden_dim=64: dict(embed_dim=dim, hidden_dim=hidden_dim),
        LAYERS,
        ignored=("max_seqlen",),
        sizes=lambda s: dict(dim=s["to_q.weight"][1], hidden_dim=s["to_q.weight"][0]),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:AFT_FULL",
        lambda d_model, n=49, simple=False: dict(
            embed_dim=d_model, max_length=None if simple else n
        ),
        {"fc_q": "query", "fc_k": "key", "fc_v": "value", "position_biases": "rows"},
        sizes=lambda s: dict(d_model=s["fc_q.weight"][1], n=s["position_biases"][0]),
        legacy=Legacy("attention.AFT", "d_model=512, n=49"),
    ),
)
