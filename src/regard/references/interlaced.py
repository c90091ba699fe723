"""Interlaced sparse attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference


def _names() -> dict[str, str]:
    """Return the names of the layers of both attentions."""
    names = {}
    for theirs, ours in (("long_range_sa", "long"), ("short_range_sa", "short")):
        for part, layer in (("f_query", "query"), ("f_key", "key")):
            for i in (0, 1):
                names[f"{theirs}.{part}.{2 * i}"] = f"{ours}.{layer}.{i}.0"
                names[f"{theirs}.{part}.{2 * i + 1}.0"] = f"{ours}.{layer}.{i}.1"
        names[f"{theirs}.f_value"] = f"{ours}.value"
        names[f"{theirs}.W.0"] = f"{ours}.out.0"
        names[f"{theirs}.W.1.0"] = f"{ours}.out.1"
    return names


def _block(
    in_channels: int,
    key_channels: int,
    value_channels: int,
    out_channels: int,
    down_factor: Sequence[int] = (8, 8),
) -> Options:
    return dict(
        channels=in_channels,
        out_channels=out_channels,
        key_dim=key_channels,
        value_dim=value_channels,
        block_size=tuple(down_factor),
    )


REFERENCES = (
    Reference(
        "openseg-group/openseg.pytorch:ISA_Block",
        _block,
        _names(),
        ignored=("bn_type",),
        map="long: b_g q k, short: b_g q k",
    ),
)
