"""Multi-scale convolutional attention in other people's code."""

from __future__ import annotations

from .record import Reference

LAYERS = {
    "conv0": "near",
    "conv0_1": "strips.0.0",
    "conv0_2": "strips.0.1",
    "conv1_1": "strips.1.0",
    "conv1_2": "strips.1.1",
    "conv2_1": "strips.2.0",
    "conv2_2": "strips.2.1",
    "conv3": "mix",
}

REFERENCES = (
    Reference(
        "Visual-Attention-Network/SegNeXt:AttentionModule",
        lambda dim: dict(channels=dim),
        LAYERS,
        sizes=lambda s: dict(dim=s["conv3.weight"][0]),
        map="b c h w",
    ),
    Reference(
        "Visual-Attention-Network/SegNeXt:SpatialAttention",
        lambda d_model: dict(channels=d_model),
        {
            "proj_1": "before.0",
            "proj_2": "after",
            **{f"spatial_gating_unit.{name}": f"gate.{ours}" for name, ours in LAYERS.items()},
        },
        builds="MultiScaleConvBlock",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map="b c h w",
    ),
)
