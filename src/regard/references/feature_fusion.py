"""Feature fusion in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "ycszen/TorchSeg:FeatureFusion",
        lambda in_planes, out_planes, reduction=1: dict(
            in_channels=in_planes, out_channels=out_planes, reduction=reduction
        ),
        {
            "conv_1x1.conv": "fuse.0",
            "conv_1x1.bn": "fuse.1",
            "channel_attention.1.conv": "squeeze",
            "channel_attention.2.conv": "excite",
        },
        fixed=dict(norm_layer="batchnorm2d"),
        sizes=lambda s: dict(
            in_planes=s["conv_1x1.conv.weight"][1],
            out_planes=s["conv_1x1.conv.weight"][0],
            reduction=s["conv_1x1.conv.weight"][0] // s["channel_attention.1.conv.weight"][0],
        ),
        map="b o 1 1",
    ),
)
