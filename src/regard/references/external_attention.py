"""External attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

MEMORIES = {"linear_0": "keys", "linear_1": "values"}

REFERENCES = (
    Reference(
        "MenghaoGuo/EANet:External_attention",
        lambda shapes, c: dict(embed_dim=c, num_slots=shapes["linear_0.weight"][0], form="block"),
        {**MEMORIES, "conv1": "before", "conv2": "after"},
        sizes=lambda s: dict(c=s["conv1.weight"][0]),
        map="b s n",
    ),
    Reference(
        "MenghaoGuo/EANet:Attention",
        lambda shapes, dim, num_heads=8: dict(
            embed_dim=dim,
            num_slots=shapes["linear_0.weight"][0],
            form="heads",
            num_heads=4 * num_heads,
        ),
        {**MEMORIES, "trans_dims": "before", "proj": "after"},
        ignored=("qkv_bias", "qk_scale", "attn_drop", "proj_drop"),
        map="b heads n s",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ExternalAttention",
        lambda d_model, S=64: dict(embed_dim=d_model, num_slots=S),
        {"mk": "keys", "mv": "values"},
        sizes=lambda s: dict(d_model=s["mk.weight"][1], S=s["mk.weight"][0]),
        map="b n s",
        before=dict(eps=0.0),
        legacy=Legacy("attention.ExternalAttention", "d_model=512, S=8", keras=LegacyKeras()),
    ),
)
