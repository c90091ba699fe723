"""MUSE in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Legacy, LegacyKeras, Options, Reference

PROJECTIONS = ("query", "key", "value")
LAYERS = {
    "in_proj_weight": tuple(f"{name}.weight" for name in PROJECTIONS),
    "in_proj_bias": tuple(f"{name}.bias" for name in PROJECTIONS),
    "out_proj": "out",
    "dynamic_gate_para": "gate",
    "dynamics.*.weight_linear": "predict.*",
}


def _attention(
    embed_dim: int,
    num_heads: int,
    attn_type: str = "es",
    kernels: Sequence[int] = (3, 15),
    dropout: float = 0.0,
    dynamic_padding: bool = False,
) -> Options:
    if attn_type not in ("es", "ds"):
        raise ValueError(f"MUSE: attn_type must be 'es' or 'ds', got {attn_type!r}")
    return dict(
        embed_dim=embed_dim,
        num_heads=num_heads,
        kernel_sizes=tuple(kernels),
        padding="causal" if attn_type == "ds" else "same",
        mask_values=dynamic_padding,
        dropout=dropout,
    )


def _layer(
    embed_dim: int,
    num_heads: int,
    ffn: int,
    attn_type: str = "es",
    kernels: Sequence[int] = (3, 15),
    dropout: float = 0.0,
    dynamic_padding: bool = False,
    normalize_before: bool = False,
) -> Options:
    inner = _attention(embed_dim, num_heads, attn_type, kernels, dropout, dynamic_padding)
    return {**inner, "hidden_dim": ffn, "norm_first": normalize_before}


def _xmu(d_model: int, d_k: int, d_v: int, h: int, dropout: float = 0.1) -> Options:
    return dict(
        embed_dim=d_model,
        num_heads=h,
        kernel_sizes=(1, 3, 5),
        filters="static",
        head_dim=d_k,
        value_head_dim=d_v,
        dropout=dropout,
    )


REFERENCES = (
    Reference(
        "lancopku/MUSE:ParallelMultiheadAttention",
        _attention,
        LAYERS,
        fixed=dict(dynamic_gate=True),
        map="b n n",
    ),
    Reference(
        "lancopku/MUSE:TransformerCombineEncoderLayer",
        _layer,
        {
            **{
                f"self_attn.{there}": (
                    f"branches.{here}"
                    if isinstance(here, str)
                    else tuple(f"branches.{name}" for name in here)
                )
                for there, here in LAYERS.items()
            },
            "self_attn": "branches",
            "self_attn_layer_norm": "norm",
            "fc1": "expand",
            "fc2": "contract",
        },
        builds="MUSELayer",
        fixed=dict(dynamic_gate=True),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:MUSEAttention",
        _xmu,
        {
            "fc_q": "query",
            "fc_k": "key",
            "fc_v": "value",
            "fc_o": "out",
            "dy_paras": "gate",
            **{f"conv{k}.depth_conv": f"depth.{i}" for i, k in enumerate((1, 3, 5))},
            **{f"conv{k}.pointwise_conv": f"point.{i}" for i, k in enumerate((1, 3, 5))},
        },
        map="b heads n n",
        differs="replaces the weights of its kernels by their softmax at every call",
        legacy=Legacy(
            "attention.MUSEAttention",
            "d_model=512, d_k=512, d_v=512, h=8",
            call="Queries",
            keras=LegacyKeras(
                differs=(
                    "makes the weights of its kernels anew at every call, and drops everything in "
                    "training (dropout=1; it is 0.1 now)"
                )
            ),
        ),
    ),
)
