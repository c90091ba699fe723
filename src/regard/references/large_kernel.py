"""Large kernel attention in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "Visual-Attention-Network/VAN-Classification:LKA",
        lambda dim: dict(channels=dim),
        {"conv0": "near", "conv_spatial": "far", "conv1": "mix"},
        sizes=lambda s: dict(dim=s["conv0.weight"][0]),
        map="b c h w",
    ),
    Reference(
        "Visual-Attention-Network/VAN-Classification:Attention",
        lambda d_model: dict(channels=d_model),
        {
            "proj_1": "before.0",
            "proj_2": "after",
            "spatial_gating_unit.conv0": "gate.near",
            "spatial_gating_unit.conv_spatial": "gate.far",
            "spatial_gating_unit.conv1": "gate.mix",
        },
        builds="LargeKernelBlock",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map="b c h w",
    ),
)
