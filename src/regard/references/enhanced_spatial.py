"""Enhanced spatial attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "njulj/RFDN:ESA",
        lambda n_feats: dict(channels=n_feats),
        {
            "conv1": "squeeze",
            "conv2": "shrink",
            "conv_max": "pooled.0",
            "conv3": "pooled.2",
            "conv3_": "pooled.4",
            "conv_f": "skip",
            "conv4": "excite",
        },
        ignored=("conv",),
        sizes=lambda s: dict(n_feats=s["conv1.weight"][1]),
        map="b c h w",
    ),
)
