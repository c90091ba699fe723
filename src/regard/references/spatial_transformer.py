"""The spatial transformer in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _tutorial(
    in_channels: int,
    size: int,
    k1: int,
    k2: int,
    c1: int,
    c2: int,
    hidden: int,
    align_corners: bool,
) -> Options:
    return dict(
        channels=in_channels,
        input_size=size,
        kernel_sizes=(k1, k2),
        hidden_channels=(c1, c2),
        hidden_dim=hidden,
        align_corners=align_corners,
    )


REFERENCES = (
    Reference(
        "pytorch/tutorials",
        _tutorial,
        {
            "localization.0": "localize.0",
            "localization.3": "localize.3",
            "fc_loc.0": "localize.7",
            "fc_loc.2": "place",
        },
    ),
)
