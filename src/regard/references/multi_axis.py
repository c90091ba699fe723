"""Multi-axis attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

POSITIONS = {"2d_multi_head": "head", "2d_single_head": "shared", None: "none"}


def _authors(
    hidden_size: int,
    head_size: int = 32,
    window_size: int = 7,
    grid_size: int | None = None,
    rel_attn_type: str | None = None,
    dropatt: float | None = None,
) -> Options:
    return dict(
        channels=hidden_size,
        num_heads=hidden_size // head_size,
        window_size=grid_size or window_size,
        groups="grid" if grid_size else "block",
        positions=POSITIONS[rel_attn_type],
        dropout=dropatt or 0.0,
    )


def _turned(state: dict[str, Tensor], module: nn.Module) -> State:
    """Turn TensorFlow's weights, and the table, which has the distance from query to key."""
    for name in ("q", "k", "v"):
        state[f"{name}.weight"] = state[f"{name}.weight"].flatten(1).T
        state[f"{name}.bias"] = state[f"{name}.bias"].flatten()
    state["o.weight"] = state["o.weight"].flatten(0, 1).T
    if "relative_bias" in state:
        table = state["relative_bias"].flip(-2, -1).flatten(-2)  # heads rows, or rows
        state["relative_bias"] = table.reshape(-1, table.shape[-1]).T
    return state


REFERENCES = (
    Reference(
        "google-research/maxvit:MaxViTBlock",
        _authors,
        {"q": "query", "k": "key", "v": "value", "o": "out", "relative_bias": "positions"},
        adapt=_turned,
        map="b_g heads q k",
    ),
)
