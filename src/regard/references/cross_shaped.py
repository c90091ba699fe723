"""Cross-shaped window attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _arguments(
    dim: int,
    reso: int,
    num_heads: int,
    split_size: int = 7,
    qkv_bias: bool = False,
    qk_scale: float | None = None,
    drop: float = 0.0,
    attn_drop: float = 0.0,
    last_stage: bool = False,
) -> Options:
    return dict(
        channels=dim,
        num_heads=num_heads,
        stripe_width=None if last_stage or reso == split_size else split_size,
        bias=qkv_bias,
        scale=qk_scale or None,
        dropout=attn_drop,
        out_dropout=drop,
    )


REFERENCES = (
    Reference(
        "microsoft/CSWin-Transformer:CSWinBlock",
        _arguments,
        {"qkv": ("query", "key", "value"), "attns.*.get_v": "local.*", "proj": "out"},
        ignored=("mlp_ratio", "drop_path", "act_layer", "norm_layer"),
        unread=("norm1.*", "norm2.*", "mlp.*"),
        map="0: b_g heads q k, 1: b_g heads q k",
    ),
)
