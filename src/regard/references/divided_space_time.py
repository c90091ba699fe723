"""Divided space-time attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _timesformer(
    dim: int, num_heads: int, mlp_ratio: float = 4.0, qkv_bias: bool = False, *, T: int
) -> Options:
    """Add T, the number of frames, which is an argument of the class's forward."""
    return dict(
        channels=dim,
        num_heads=num_heads,
        hidden_dim=int(dim * mlp_ratio),
        num_frames=T,
        qkv_bias=qkv_bias,
        eps=1e-5,
    )


REFERENCES = (
    Reference(
        "facebookresearch/TimeSformer:Block",
        _timesformer,
        {
            "temporal_norm1": "time.norm",
            "temporal_attn.qkv": "time.qkv",
            "temporal_attn.proj": "time.out",
            "temporal_fc": "temporal_fc",
            "norm1": "space.norm",
            "attn.qkv": "space.qkv",
            "attn.proj": "space.out",
            "norm2": "norm",
            "mlp.fc1": "mlp.0",
            "mlp.fc2": "mlp.2",
        },
        fixed=dict(
            qk_scale=None,
            act_layer="gelu",
            norm_layer="layernorm",
            attention_type="divided_space_time",
        ),
        ignored=("drop", "attn_drop", "drop_path"),
        map="b_p heads t t, space: b_t heads p p",
    ),
)
