"""Squeeze-and-attention, as written from its equations."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "equations:SANet",
        lambda c_in, c_out, align_corners=True: dict(
            in_channels=c_in,
            out_channels=c_out,
            interpolation="aligned" if align_corners else "bilinear",
        ),
        {"res": "main", "attn": "look"},
        map="b o h w",
    ),
    Reference(
        "equations:SqueezeAttentionBlock",
        lambda ch_in, ch_out, sigmoid=False: dict(
            in_channels=ch_in,
            out_channels=ch_out,
            gate_activation="relu-sigmoid" if sigmoid else "relu",
            interpolation="nearest",
            bias=True,
        ),
        {"conv.conv": "main", "conv_atten.conv": "look"},
        map="b o h w",
    ),
)
