"""Context anchor attention in other people's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    return dict(
        channels=channels,
        kernel_size=(v_kernel_size, h_kernel_size),
        **_checked("CAA", norm_cfg, act_cfg),
    )


def _checked(
    who: str, norm_cfg: Mapping[str, Any] | None, act_cfg: Mapping[str, Any] | None
) -> Options:
    """Return which of norm and activation there are."""
    for name, given, known in (("norm_cfg", norm_cfg, NORM), ("act_cfg", act_cfg, ACTIVATION)):
        if given is not None and dict(given) != known:
            raise ValueError(f"{who}: {name} must be None or {known} to be loaded, got {given}")
    return dict(norm=norm_cfg is not None, activation=act_cfg is not None)


def _block(
    shapes: Shapes,
    in_channels: int,
    out_channels: int | None = None,
    kernel_sizes: Sequence[int] = (3, 5, 7, 9, 11),
    dilations: Sequence[int] = (1, 1, 1, 1, 1),
    expansion: float = 1.0,
    add_identity: bool = True,
    with_caa: bool = True,
    caa_kernel_size: int = 11,
    norm_cfg: Mapping[str, Any] | None = NORM,
    act_cfg: Mapping[str, Any] | None = ACTIVATION,
    init_cfg: Mapping[str, Any] | None = None,
) -> Options:
    if set(dilations) != {1}:
        raise ValueError(f"InceptionBottleneck: dilations must be 1 to be loaded, got {dilations}")
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        hidden_dim=shapes["pw_conv.conv.weight"][0],  # rounded there, by a rule of its own
        kernel_sizes=tuple(kernel_sizes),
        kernel_size=caa_kernel_size,
        residual=add_identity and out_channels in (None, in_channels),
        **_checked("InceptionBottleneck", norm_cfg, act_cfg),
    )


def _sizes(shapes: Shapes) -> Options:
    return dict(
        channels=shapes["conv1.conv.weight"][0],
        h_kernel_size=shapes["h_conv.conv.weight"][3],
        v_kernel_size=shapes["v_conv.conv.weight"][2],
    )


GATE = {
    "conv1.conv": "before.0",
    "conv1.bn": "before.1",
    "h_conv.conv": "strips.0",
    "v_conv.conv": "strips.1",
    "conv2.conv": "after.0",
    "conv2.bn": "after.1",
}

REFERENCES = (
    Reference("PKINet/PKINet:CAA", _authors, GATE, sizes=_sizes, map="b c h w"),
    Reference(
        "PKINet/PKINet:InceptionBottleneck",
        _block,
        {
            **{f"caa_factor.{name}": f"gate.{ours}" for name, ours in GATE.items()},
            "pre_conv.conv": "before.0",
            "pre_conv.bn": "before.1",
            "dw_conv.conv": "kernels.0",
            "dw_conv*.conv": "kernels.*",
            "pw_conv.conv": "mix.0",
            "pw_conv.bn": "mix.1",
            "post_conv.conv": "after.0",
            "post_conv.bn": "after.1",
        },
        builds="ContextAnchorBlock",
        fixed=dict(with_caa=True),
        map="b c h w",
    ),
)
