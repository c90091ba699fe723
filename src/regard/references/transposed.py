"""Transposed attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _block(
    dim: int, num_heads: int, ffn_expansion_factor: float, bias: bool, LayerNorm_type: str
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        expansion=ffn_expansion_factor,
        bias=bias,
        norm_bias=LayerNorm_type != "BiasFree",
    )


REFERENCES = (
    Reference(
        "swz30/Restormer:Attention",
        lambda dim, num_heads, bias: dict(channels=dim, num_heads=num_heads, bias=bias),
        {"qkv_dwconv": "mix", "project_out": "out"},
        map="b heads d d",
    ),
    Reference(
        "swz30/Restormer:TransformerBlock",
        _block,
        {
            "norm1.body": "norm",
            "attn.qkv": "attend.qkv",
            "attn.qkv_dwconv": "attend.mix",
            "attn.temperature": "attend.temperature",
            "attn.project_out": "attend.out",
            "norm2.body": "network_norm",
            "ffn.project_in": "expand",
            "ffn.dwconv": "local",
            "ffn.project_out": "reduce",
        },
        builds="TransposedBlock",
        map="b heads d d",
    ),
)
