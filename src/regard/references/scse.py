"""Concurrent spatial and channel squeeze and excitation in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes


def _smp_sizes(shapes: Shapes) -> Options:
    hidden, channels = shapes["cSE.1.weight"][:2]
    return dict(in_channels=channels, reduction=channels // hidden)


REFERENCES = (
    Reference(
        "ai-med/squeeze_and_excitation:ChannelSpatialSELayer",
        lambda num_channels, reduction_ratio=2: dict(
            channels=num_channels, reduction=reduction_ratio, fusion="max"
        ),
        {"cSE.fc1": "squeeze", "cSE.fc2": "excite", "sSE.conv": "look"},
        map="channel: b c, spatial: b 1 *",
    ),
    Reference(
        "ai-med/squeeze_and_excitation:ChannelSELayer, SpatialSELayer",
        # The combinations of the authors' second paper, which that repository lacks.
        lambda num_channels, reduction_ratio=2, *, fusion: dict(
            channels=num_channels, reduction=reduction_ratio, fusion=fusion
        ),
        {"cSE.fc1": "squeeze", "cSE.fc2": "excite", "sSE.conv": "look"},
        map="channel: b c, spatial: b 1 *",
    ),
    Reference(
        "ai-med/squeeze_and_excitation:ChannelSELayer",
        lambda num_channels, reduction_ratio=2: dict(
            channels=num_channels, reduction=reduction_ratio, gates="channel"
        ),
        {"fc1": "squeeze", "fc2": "excite"},
        map="b c",
    ),
    Reference(
        "ai-med/squeeze_and_excitation:SpatialSELayer",
        lambda num_channels: dict(channels=num_channels, reduction=1, gates="spatial"),
        {"conv": "look"},
        map="b 1 *",
    ),
    Reference(
        "qubvel-org/segmentation_models.pytorch:SCSEModule",
        lambda in_channels, reduction=16: dict(
            channels=in_channels, reduction=reduction, fusion="add"
        ),
        {"cSE.1": "squeeze", "cSE.3": "excite", "sSE.0": "look"},
        sizes=_smp_sizes,
        map="channel: b c 1*, spatial: b 1 *",
    ),
)
