"""Attention refinement in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "ycszen/TorchSeg:AttentionRefinement",
        lambda in_planes, out_planes: dict(in_channels=in_planes, out_channels=out_planes),
        {
            "conv_3x3.conv": "conv.0",
            "conv_3x3.bn": "conv.1",
            "channel_attention.1.conv": "excite",
            "channel_attention.1.bn": "norm",
        },
        fixed=dict(norm_layer="batchnorm2d"),
        sizes=lambda s: dict(
            in_planes=s["conv_3x3.conv.weight"][1], out_planes=s["conv_3x3.conv.weight"][0]
        ),
        map="b o 1 1",
    ),
)
