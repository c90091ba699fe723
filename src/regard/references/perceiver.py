"""Perceiver attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

NORMS = {"layer_norm": "query_norm", "layer_norm_1": "norm", "layer_norm_2": "mlp_norm"}
LAYERS = {
    "attention.linear": "query",
    "attention.linear_1": "key",
    "attention.linear_2": "value",
    "attention.linear_3": "out",
    "mlp.linear": "expand",
    "mlp.linear_1": "reduce",
}


def _arguments(
    q_channels: int,
    kv_channels: int,
    widening_factor: int = 1,
    dropout_prob: float = 0.0,
    dropout_attn_prob: float = 0.0,
    num_heads: int = 8,
    shape_for_attn: str = "kv",
    use_query_residual: bool = True,
    qk_channels: int | None = None,
    v_channels: int | None = None,
) -> Options:
    """Translate the arguments; haiku sees the channels in the call."""
    if dropout_prob:
        raise ValueError(f"CrossAttention: dropout_prob must be 0 to be loaded, got {dropout_prob}")
    return dict(
        embed_dim=q_channels,
        num_heads=num_heads,
        kdim=kv_channels,
        qk_dim=qk_channels or {"q": q_channels, "kv": kv_channels}[shape_for_attn],
        value_dim=v_channels,
        mlp_ratio=widening_factor,
        residual=use_query_residual,
        dropout=dropout_attn_prob,
    )


def _turned(state: dict[str, Tensor], module: nn.Module) -> State:
    return {name: t.T if name.endswith(".w") else t for name, t in state.items()}


REFERENCES = (
    Reference(
        "google-deepmind/deepmind-research:CrossAttention",
        _arguments,
        {
            **{f"{name}.scale": f"{ours}.weight" for name, ours in NORMS.items()},
            **{f"{name}.offset": f"{ours}.bias" for name, ours in NORMS.items()},
            **{f"{name}.w": f"{ours}.weight" for name, ours in LAYERS.items()},
            **{f"{name}.b": f"{ours}.bias" for name, ours in LAYERS.items()},
        },
        adapt=_turned,
        sizes=lambda s: dict(
            q_channels=s["attention.linear.w"][0], kv_channels=s["attention.linear_1.w"][0]
        ),
        map="b heads n m",
    ),
)
