"""The global attention mechanism in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _arguments(
    in_channels: int, out_channels: int, rate: int = 4, *, channel_activation: str | None = None
) -> Options:
    """Add the paper's activation, which the weights do not determine."""
    if in_channels != out_channels:
        raise ValueError(
            f"GAM_Attention: out_channels ({out_channels}) must equal in_channels ({in_channels}): "
            "the gates weigh the input"
        )
    return dict(channels=in_channels, reduction=rate, channel_activation=channel_activation)


REFERENCES = (
    Reference(
        "northBeggar/Plug-and-Play:GAM_Attention",
        _arguments,
        {
            "channel_attention.0": "squeeze",
            "channel_attention.2": "excite",
            "spatial_attention.0": "narrow",
            "spatial_attention.1": "narrow_norm",
            "spatial_attention.3": "widen",
            "spatial_attention.4": "widen_norm",
        },
        map="channel: b c h w, spatial: b c h w",
    ),
)
