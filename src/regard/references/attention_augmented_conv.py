"""Attention-augmented convolution in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _equations(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    Nh: int,
    dk: int,
    dv: int,
    relative: bool,
    height: int | None = None,
    width: int | None = None,
) -> Options:
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        num_heads=Nh,
        key_channels=dk,
        value_channels=dv,
        input_size=(height, width) if relative else None,
    )


REFERENCES = (
    Reference(
        "equations",
        _equations,
        {
            "qkv_conv": "qkv",
            "attn_out": "out",
            "conv_out": "conv",
            "key_rel_h": "rows",
            "key_rel_w": "columns",
        },
        map="b heads n m",
    ),
    Reference(
        "leaderj1001/Attention-Augmented-Conv2d",
        differs=(
            "mixes up positions and channels of the values, and makes queries, keys and values by "
            "the large kernel"
        ),
        loads=False,
    ),
)
