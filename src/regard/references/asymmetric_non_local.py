"""Asymmetric non-local blocks in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference


def _one_stage(sizes: Sequence[int]) -> None:
    if tuple(sizes) != (1,):
        raise ValueError(
            f"sizes must be (1,), one stage on all positions, to be loaded, got {sizes!r}"
        )


def _apnb(
    in_channels: int,
    out_channels: int,
    key_channels: int,
    value_channels: int,
    dropout: float = 0.05,
    sizes: Sequence[int] = (1,),
    norm_type: str | None = None,
    psp_size: Sequence[int] = (1, 3, 6, 8),
) -> Options:
    _one_stage(sizes)
    return dict(
        channels=in_channels,
        out_channels=out_channels,
        key_channels=key_channels,
        value_channels=value_channels,
        sizes=tuple(psp_size),
        dropout=dropout,
    )


def _afnb(
    low_in_channels: int,
    high_in_channels: int,
    out_channels: int,
    key_channels: int,
    value_channels: int,
    dropout: float = 0.05,
    sizes: Sequence[int] = (1,),
    norm_type: str | None = None,
    psp_size: Sequence[int] = (1, 3, 6, 8),
) -> Options:
    _one_stage(sizes)
    return dict(
        channels=high_in_channels,
        guide_channels=low_in_channels,
        out_channels=out_channels,
        key_channels=key_channels,
        value_channels=value_channels,
        sizes=tuple(psp_size),
        dropout=dropout,
    )


NAMES: dict[str, str | tuple[str, ...]] = {
    "stages.0.f_key.0": "key.0",
    "stages.0.f_key.1.0": "key.1",
    "stages.0.f_query.0": "query.0",
    "stages.0.f_query.1.0": "query.1",
    "stages.0.f_value": "value",
    "stages.0.W": "out",
    "conv_bn_dropout.0": "fuse.0",
    "conv_bn_dropout.1": "fuse.1",
    "conv_bn_dropout.1.0": "fuse.1",
}

REFERENCES = (
    Reference(
        "MendelXu/ANN:APNB",
        _apnb,
        NAMES,
        # The layer of the queries is that of the keys, under a second name.
        unread=("stages.0.f_query.*",),
        map="b n m",
    ),
    Reference("MendelXu/ANN:AFNB", _afnb, NAMES, builds="AsymmetricFusion", map="b n m"),
)
