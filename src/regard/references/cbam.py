"""CBAM in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Legacy, LegacyKeras, Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

POOLS = {"avg": "mean", "max": "max", "lp": "l2", "lse": "logsumexp"}


def _authors(
    gate_channels: int,
    reduction_ratio: int = 16,
    pool_types: Sequence[str] = ("avg", "max"),
    no_spatial: bool = False,
) -> Options:
    return dict(
        channels=gate_channels,
        reduction=reduction_ratio,
        pools=[POOLS[name] for name in pool_types],
        gates="channel" if no_spatial else "both",
    )


def _authors_sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["ChannelGate.mlp.1.weight"]
    return dict(
        gate_channels=channels,
        reduction_ratio=channels // hidden,
        no_spatial="SpatialGate.spatial.conv.weight" not in shapes,
    )


def _timm(
    channels: int, rd_channels: int, spatial_kernel_size: int = 7, mlp_bias: bool = False
) -> Options:
    return dict(
        channels=channels,
        hidden_dim=rd_channels,
        kernel_size=spatial_kernel_size,
        bias=mlp_bias,
        planes="mean-max",
    )


def _momentum(state: dict[str, Tensor], module: nn.Module) -> State:
    """Set the norm's momentum to torch's default, as in timm."""
    module.get_submodule("norm").momentum = 0.1  # type: ignore[assignment]
    return state


REFERENCES = (
    Reference(
        "Jongchan/attention-module:CBAM",
        _authors,
        {
            "ChannelGate.mlp.1": "squeeze",
            "ChannelGate.mlp.3": "excite",
            "SpatialGate.spatial.conv": "look",
            "SpatialGate.spatial.bn": "norm",
        },
        sizes=_authors_sizes,
        map="channel: b c, spatial: b 1 h w",
    ),
    Reference(
        "timm:CbamModule",
        _timm,
        {
            "channel.fc1": "squeeze",
            "channel.fc2": "excite",
            "spatial.conv.conv": "look",
            "spatial.conv.bn": "norm",
        },
        fixed=dict(act_layer="relu", gate_layer="sigmoid"),
        ignored=("rd_ratio", "rd_divisor"),
        sizes=lambda s: dict(
            channels=s["channel.fc1.weight"][1],
            rd_channels=s["channel.fc1.weight"][0],
            spatial_kernel_size=s["spatial.conv.conv.weight"][3],
            mlp_bias="channel.fc1.bias" in s,
        ),
        adapt=_momentum,
        map="channel: b c 1 1, spatial: b 1 h w",
    ),
    Reference(
        "timm:LightCbamModule",
        differs="reads one average of both pools, and one of both planes",
        loads=False,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CBAMBlock",
        lambda channel=512, reduction=16, kernel_size=49: dict(
            channels=channel, reduction=reduction, kernel_size=kernel_size
        ),
        {"ca.se.0": "squeeze", "ca.se.2": "excite", "sa.conv": "look"},
        sizes=lambda s: dict(
            channel=s["ca.se.0.weight"][1],
            reduction=s["ca.se.0.weight"][1] // s["ca.se.0.weight"][0],
            kernel_size=s["sa.conv.weight"][3],
        ),
        map="channel: b c 1 1, spatial: b 1 h w",
        differs="adds its input to its output, and has no norm after its spatial kernel",
        before=dict(residual=True, norm=False, bias=False, spatial_bias=True),
        legacy=Legacy(
            "attention.CBAM", "channel=512, reduction=16, kernel_size=7", keras=LegacyKeras()
        ),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CBAM.py:ChannelAttention",
        lambda channel, reduction=16: dict(
            channels=channel, reduction=reduction, gates="channel", bias=False
        ),
        {"se.0": "squeeze", "se.2": "excite"},
        legacy=Legacy("attention.CBAM", "channel=512, reduction=16", call="Gate"),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:CBAM.py:SpatialAttention",
        lambda kernel_size=7: dict(
            channels=None, gates="spatial", kernel_size=kernel_size, norm=False, spatial_bias=True
        ),
        {"conv": "look"},
        legacy=Legacy("attention.CBAM", "kernel_size=7", call="Gate"),
    ),
)
