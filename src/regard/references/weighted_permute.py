"""The weighted permute MLP in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _side_by_side(state: dict[str, Tensor], module: nn.Module) -> State:
    """Reorder the rows: in that class, the three weights of a channel are adjacent."""
    for name in ("reweighting.fc2.weight", "reweighting.fc2.bias"):
        state[name] = state[name].unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
    return state


REFERENCES = (
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:WeightedPermuteMLP",
        lambda dim, seg_dim=8, qkv_bias=False, proj_drop=0.0: dict(
            channels=dim, height=seg_dim, bias=qkv_bias, gate_dropout=0.1, dropout=proj_drop
        ),
        {
            "mlp_c": "channel",
            "mlp_w": "row",
            "mlp_h": "column",
            "proj": "out",
            "reweighting.fc1": "squeeze",
            "reweighting.fc2": "select",
        },
        sizes=lambda s: dict(dim=s["proj.weight"][0], qkv_bias="mlp_c.bias" in s),
        adapt=_side_by_side,
        map="k b 1 1 c",
        legacy=Legacy("attention.ViP", "dim=512, seg_dim=8", call="ChannelsLast"),
    ),
)
