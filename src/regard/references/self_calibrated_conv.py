"""Self-calibrated convolution in other people's code."""

from __future__ import annotations

from .record import Options, Reference

# In the authors' code, the pool is the first layer of k2.
LAYERS = {"k2.1": "wide.0", "k2.2": "wide.1", "k3": "near", "k4": "out"}


def _conv(
    inplanes: int,
    planes: int,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    pooling_r: int,
    *,
    up: str = "nearest",
) -> Options:
    """Add ``up``, the interpolation, which the weights do not determine."""
    for name, got, want in (("planes", planes, inplanes), ("padding", padding, dilation)):
        if got != want:
            raise ValueError(
                f"SCConv: {name} must be {want}, got {got}: the gate has the sizes of the input"
            )
    return dict(
        in_channels=inplanes,
        stride=stride,
        dilation=dilation,
        groups=groups,
        pool_size=pooling_r,
        interpolation=up,
    )


def _bottleneck(
    inplanes: int,
    planes: int,
    stride: int = 1,
    cardinality: int = 1,
    bottleneck_width: int = 32,
    avd: bool = False,
    dilation: int = 1,
    is_first: bool = False,
    *,
    up: str = "nearest",
) -> Options:
    return dict(
        in_channels=inplanes,
        out_channels=4 * planes,
        hidden_dim=int(planes * bottleneck_width / 64) * cardinality,
        stride=stride,
        dilation=dilation,
        groups=cardinality,
        average=avd and (stride > 1 or is_first),
        interpolation=up,
    )


REFERENCES = (
    Reference(
        "MCG-NKU/SCNet:SCConv",
        _conv,
        LAYERS,
        ignored=("norm_layer",),
        map="b c h w",
    ),
    Reference(
        "MCG-NKU/SCNet:SCBottleneck",
        _bottleneck,
        {
            "conv1_a": "narrow_plain.0",
            "bn1_a": "narrow_plain.1",
            "conv1_b": "narrow.0",
            "bn1_b": "narrow.1",
            "k1": "plain",
            "conv3": "widen.0",
            "bn3": "widen.1",
            "downsample": "shortcut",
            **{f"scconv.{there}": f"calibrated.{here}" for there, here in LAYERS.items()},
        },
        builds="SelfCalibratedBottleneck",
        ignored=("norm_layer", "downsample"),
        map="b c h w",
    ),
)
