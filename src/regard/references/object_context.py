"""Object context in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

RELATION = {
    "stages.*.f_key": "relations.*.key",
    "stages.*.f_value": "relations.*.value",
    "stages.*.W": "relations.*.out",
}


def _same(in_channels: int, out_channels: int) -> int:
    if in_channels != out_channels:
        raise ValueError(
            "ObjectContext: its output is as wide as its input, so in_channels "
            f"({in_channels}) must be out_channels ({out_channels})"
        )
    return in_channels


def _base(
    shapes: Shapes,
    in_channels: int,
    out_channels: int,
    key_channels: int,
    value_channels: int,
    dropout: float,
    sizes: Sequence[int] = (1,),
) -> Options:
    channels = _same(in_channels, out_channels)
    return dict(
        channels=channels,
        key_channels=key_channels,
        value_channels=value_channels,
        scales=tuple(sizes),
        concat=shapes["conv_bn_dropout.0.weight"][1] > channels,
        dropout=0.0,
    )


def _pyramid(
    in_channels: int, out_channels: int, dropout: float, sizes: Sequence[int] = (1,)
) -> Options:
    return dict(channels=_same(in_channels, out_channels), scales=tuple(sizes), dropout=0.0)


def _atrous(
    features: int, out_features: int = 512, dilations: Sequence[int] = (12, 24, 36)
) -> Options:
    return dict(
        in_channels=features, hidden_dim=out_features, dilations=tuple(dilations), dropout=0.0
    )


def _keys_once(state: dict[str, Tensor], module: nn.Module) -> State:
    """Remove the queries' projection, which is the keys' projection under a second name."""
    import torch

    for name, tensor in state.items():
        if ".f_query." in name and not torch.equal(tensor, state[name.replace("f_query", "f_key")]):
            raise ValueError("ObjectContext: queries and keys are one projection, got two")
    return {name: tensor for name, tensor in state.items() if ".f_query." not in name}


REFERENCES = (
    Reference(
        "openseg-group/OCNet.pytorch:BaseOC_Module",
        _base,
        {**RELATION, "conv_bn_dropout": "merge"},
        adapt=_keys_once,
        map="b n n",
    ),
    Reference(
        "openseg-group/OCNet.pytorch:Pyramid_OC_Module",
        _pyramid,
        {**RELATION, "up_dr": "widen", "conv_bn_dropout": "merge"},
        builds="PyramidObjectContext",
        adapt=_keys_once,
    ),
    Reference(
        "openseg-group/OCNet.pytorch:ASP_OC_Module",
        _atrous,
        {
            "context.0": "before.0",
            "context.1": "before.1",
            "context.2.conv_bn_dropout": "context.merge",
            **{f"context.2.{there}": f"context.{here}" for there, here in RELATION.items()},
            **{f"conv{i + 2}": f"branches.{i}" for i in range(9)},
            "conv_bn_dropout": "merge",
        },
        builds="AtrousObjectContext",
        adapt=_keys_once,
        map="b n n",
    ),
)
