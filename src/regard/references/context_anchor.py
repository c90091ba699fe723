"""Context anchor attention in other people's code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .record import Options, Reference, Shapes

NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
ACTIVATION = {"type": "SiLU"}


def _authors(
    channels: int,
    h_kernel_size: int = 11,
    v_kernel_size: int = 11,
    norm_cfg: Mapping[str, Any] | None = NORM,
    act_cfg: Mapping[str, Any] | None = ACTIVATION,
    init_cfg: Mapping[str, Any] | None = None,
) -> Options:
    for name, given, known in (("norm_cfg", norm_cfg, NORM), ("act_cfg", act_cfg, ACTIVATION)):
        if given is not None and dict(given) != known:
            raise ValueError(f"CAA: {name} must be None or {known} to be loaded, got {given}")
    return dict(
        channels=channels,
        kernel_size=(v_kernel_size, h_kernel_size),
        norm=norm_cfg is not None,
        activation=act_cfg is not None,
    )


def _sizes(shapes: Shapes) -> Options:
    return dict(
        channels=shapes["conv1.conv.weight"][0],
        h_kernel_size=shapes["h_conv.conv.weight"][3],
        v_kernel_size=shapes["v_conv.conv.weight"][2],
    )


REFERENCES = (
    Reference(
        "PKINet/PKINet:CAA",
        _authors,
        {
            "conv1.conv": "before.0",
            "conv1.bn": "before.1",
            "h_conv.conv": "strips.0",
            "v_conv.conv": "strips.1",
            "conv2.conv": "after.0",
            "conv2.bn": "after.1",
        },
        sizes=_sizes,
        map="b c h w",
    ),
)
