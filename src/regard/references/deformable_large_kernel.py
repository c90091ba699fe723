"""Deformable large kernel attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference

DENSE = {
    "conv0.offset_net": "near.place.0",
    "conv0.deform_conv": "near.conv",
    "conv_spatial.offset_net": "far.place.0",
    "conv_spatial.deform_conv": "far.conv",
    "conv1": "mix",
}
SEPARABLE = {
    **DENSE,
    "conv0.conv_channel_adjust": "near.place.0",
    "conv0.offset_net": "near.place.1",
    "conv_spatial.conv_channel_adjust": "far.place.0",
    "conv_spatial.offset_net": "far.place.1",
}


def _within(names: dict[str, str]) -> dict[str, str]:
    """Return the names in the block around the gate."""
    gate = {f"spatial_gating_unit.{name}": f"gate.{ours}" for name, ours in names.items()}
    return {"proj_1": "before.0", "proj_2": "after", **gate}


def _light(dim: int) -> Options:
    return dict(channels=dim, offsets="separable")


MAPS = "0: b c h w, offset_conv0: b k_2 h w, offset_conv_spatial: b k_2 h w"
MAP_NAMES = {"offset_conv0": "offset_near", "offset_conv_spatial": "offset_far"}

REFERENCES = (
    Reference(
        "xmindflow/deformableLKA:deformable_LKA",
        lambda dim: dict(channels=dim),
        DENSE,
        sizes=lambda s: dict(dim=s["conv1.weight"][0]),
        map=MAPS,
        map_names=MAP_NAMES,
    ),
    Reference(
        "xmindflow/deformableLKA:deformable_LKA_experimental",
        _light,
        SEPARABLE,
        sizes=lambda s: dict(dim=s["conv1.weight"][0]),
        map=MAPS,
        map_names=MAP_NAMES,
    ),
    Reference(
        "xmindflow/deformableLKA:deformable_LKA_Attention",
        lambda d_model: dict(channels=d_model),
        _within(DENSE),
        builds="DeformableLargeKernelBlock",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map=MAPS,
        map_names=MAP_NAMES,
    ),
    Reference(
        "xmindflow/deformableLKA:deformable_LKA_Attention_experimental",
        lambda d_model: _light(d_model),
        _within(SEPARABLE),
        builds="DeformableLargeKernelBlock",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map=MAPS,
        map_names=MAP_NAMES,
    ),
)
