"""Multi-head attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Options, Reference

PROJECTIONS = ("query", "key", "value")


def _torch(
    embed_dim: int,
    num_heads: int,
    dropout: float = 0.0,
    bias: bool = True,
    add_bias_kv: bool = False,
    add_zero_attn: bool = False,
    kdim: int | None = None,
    vdim: int | None = None,
) -> Options:
    return dict(
        embed_dim=embed_dim,
        num_heads=num_heads,
        kdim=kdim,
        vdim=vdim,
        bias=bias,
        dropout=dropout,
        add_bias_kv=add_bias_kv,
        add_zero_attn=add_zero_attn,
    )


REFERENCES = (
    Reference(
        "torch:MultiheadAttention",
        _torch,
        {
            # torch stacks the three projections if their sizes are equal.
            "in_proj_weight": tuple(f"{name}.weight" for name in PROJECTIONS),
            "in_proj_bias": tuple(f"{name}.bias" for name in PROJECTIONS),
            "q_proj_weight": "query.weight",
            "k_proj_weight": "key.weight",
            "v_proj_weight": "value.weight",
            "out_proj": "out",
            "bias_k": "extra_key",
            "bias_v": "extra_value",
        },
        ignored=("batch_first",),
        map="b heads n m",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ScaledDotProductAttention",
        lambda d_model, d_k, d_v, h, dropout=0.1: dict(
            embed_dim=d_model, num_heads=h, head_dim=d_k, value_head_dim=d_v, dropout=dropout
        ),
        {"fc_q": "query", "fc_k": "key", "fc_v": "value", "fc_o": "out"},
        map="b heads n m",
        legacy=Legacy(
            "attention.SelfAttention",
            "d_model=512, d_k=512, d_v=512, h=8",
            call="Queries",
            keras=LegacyKeras(
                differs="runs only where d_k = d_v = d_model, and multiplies the scores by a mask"
            ),
        ),
    ),
)
