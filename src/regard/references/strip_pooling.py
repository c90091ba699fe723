"""Strip pooling in other people's code."""

from __future__ import annotations

from collections.abc import Sequence

from .record import Options, Reference

UP = {"mode": "bilinear", "align_corners": True}


def _block(inplanes: int, outplanes: int) -> Options:
    if inplanes != outplanes:
        raise ValueError(
            f"SPBlock: outplanes ({outplanes}) must equal inplanes ({inplanes}): the gates weigh "
            "the input"
        )
    return dict(channels=inplanes)


def _module(in_channels: int, pool_size: Sequence[int], up_kwargs: object = None) -> Options:
    if up_kwargs not in (None, UP):
        raise ValueError(f"StripPooling: up_kwargs must be {UP}, got {up_kwargs}")
    return dict(channels=in_channels, bins=pool_size)


REFERENCES = (
    Reference(
        "houqb/SPNet:SPBlock",
        _block,
        {
            "conv1": "rows.0",
            "bn1": "rows.1",
            "conv2": "columns.0",
            "bn2": "columns.1",
            "conv3": "out",
        },
        ignored=("norm_layer",),
        map="b c h w",
    ),
    Reference(
        "houqb/SPNet:StripPooling",
        _module,
        {
            "conv1_1": "narrow_short",
            "conv1_2": "narrow_long",
            "conv2_0": "here",
            "conv2_1": "binned.0",
            "conv2_2": "binned.1",
            "conv2_3": "columns",
            "conv2_4": "rows",
            "conv2_5": "short",
            "conv2_6": "long",
            "conv3": "widen",
        },
        builds="MixedPooling",
        ignored=("norm_layer",),
    ),
)
