"""Large separable kernel attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference

KERNELS = (7, 11, 23, 35, 41, 53)
LAYERS = {
    "conv0h": "near.0",
    "conv0v": "near.1",
    "conv_spatial_h": "far.0",
    "conv_spatial_v": "far.1",
    "conv1": "mix",
}


def _options(channels: int, k_size: int) -> Options:
    if k_size not in KERNELS:  # the authors' class has no layers then
        raise ValueError(f"LSKA: k_size must be one of {KERNELS}, got {k_size!r}")
    return dict(channels=channels, kernel_size=k_size)


REFERENCES = (
    Reference(
        "StevenLauHKHK/Large-Separable-Kernel-Attention:LSKA",
        lambda dim, k_size=7: _options(dim, k_size),
        LAYERS,
        sizes=lambda s: dict(dim=s["conv1.weight"][0]),
        map="b c h w",
    ),
    Reference(
        "StevenLauHKHK/Large-Separable-Kernel-Attention:Attention",
        lambda d_model, k_size=7: _options(d_model, k_size),
        {
            "proj_1": "before.0",
            "proj_2": "after",
            **{f"spatial_gating_unit.{name}": f"gate.{ours}" for name, ours in LAYERS.items()},
        },
        builds="LargeSeparableKernelBlock",
        sizes=lambda s: dict(d_model=s["proj_1.weight"][0]),
        map="b c h w",
    ),
)
