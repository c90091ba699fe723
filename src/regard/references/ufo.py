"""UFO attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Reference

REFERENCES = (
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:UFOAttention",
        # The class never applies its dropout.
        lambda d_model, d_k, d_v, h, dropout=0.1: dict(
            embed_dim=d_model, num_heads=h, head_dim=d_k, value_head_dim=d_v
        ),
        {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "out"},
        legacy=Legacy(
            "attention.UFOAttention", "d_model=512, d_k=512, d_v=512, h=8", call="Queries"
        ),
    ),
)
