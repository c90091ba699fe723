"""Large selective kernels in other people's code."""

from __future__ import annotations

from .record import Reference

LAYERS = {
    "conv0": "near",
    "conv_spatial": "far",
    "conv1": "near_half",
    "conv2": "far_half",
    "conv_squeeze": "select",
    "conv": "mix",
}

REFERENCES = (
    Reference(
        "zcablii/LSKNet:LSKblock",
        lambda dim: dict(channels=dim),
        LAYERS,
        sizes=lambda s: dict(dim=s["conv0.weight"][0]),
        map="gate: b c h w, selection: b 2 h w",
    ),
    Reference(
        "zcablii/LSKNet:Attention",
        lambda d_model: dict(channels=d_model),
        {
            "proj_1": "before.0",
            "proj_2": "after",
            **{f"spatial_gating_unit.{name}": f"gate.{ours}" for name, ours in LAYERS.items()},
        },
        builds="LSKAttention",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map="gate: b c h w, selection: b 2 h w",
    ),
)
