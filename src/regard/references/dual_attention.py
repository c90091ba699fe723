"""Dual attention in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Reference

LAYERS = {f"{name}_conv": name for name in ("query", "key", "value")}

REFERENCES = (
    Reference(
        "junfu1115/DANet:PAM_Module",
        lambda in_dim: dict(channels=in_dim),
        LAYERS,
        builds="PositionAttention",
        sizes=lambda s: dict(in_dim=s["value_conv.weight"][0]),
        map="b n n",
    ),
    Reference(
        "junfu1115/DANet:CAM_Module",
        lambda in_dim: dict(channels=in_dim),
        builds="ChannelAttention",
        map="b c c",
    ),
    Reference(
        "junfu1115/DANet:DANetHead",
        lambda in_channels, out_channels: dict(
            in_channels=in_channels, num_classes=out_channels, dropout=0.0
        ),
        {
            "conv5a": "before_position",
            "conv5c": "before_channel",
            "sa": "position",
            "sc": "channel",
            "conv51": "after_position",
            "conv52": "after_channel",
            "conv6.1": "classify_position",
            "conv7.1": "classify_channel",
            "conv8.1": "classify",
            **{f"sa.{there}": f"position.{here}" for there, here in LAYERS.items()},
        },
        builds="DualAttentionHead",
        ignored=("norm_layer",),
        map="0: b n n, 1: b c c",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:DAModule",
        lambda d_model=512, kernel_size=3, H=7, W=7: dict(channels=d_model),
        differs=(
            "ignores its arguments, has neither the scale γ nor the residual, and mixes the "
            "positions by a matrix of fixed size"
        ),
        loads=False,
        legacy=Legacy(
            "attention.DANet",
            "d_model=512, kernel_size=3, H=7, W=7",
            keras=LegacyKeras(
                differs=(
                    "mixes up channels and positions, has neither the scale γ nor the residual, "
                    "and mixes the positions by a matrix of fixed size"
                )
            ),
        ),
    ),
)
