"""BAM in other people's code."""

from __future__ import annotations

from .record import Legacy, LegacyKeras, Options, Reference

CHANNEL, SPATIAL = "channel_att.gate_c.gate_c_", "spatial_att.gate_s.gate_s_"


def _arguments(
    gate_channel: int,
    reduction_ratio: int = 16,
    dilation_conv_num: int = 2,
    dilation_val: int = 4,
    *,
    fusion: str = "product",
) -> Options:
    """Add ``fusion``, which is "sum" in many copies, because the weights do not determine it."""
    if dilation_conv_num != 2:
        raise ValueError(f"BAM: dilation_conv_num must be 2, got {dilation_conv_num}")
    return dict(
        channels=gate_channel, reduction=reduction_ratio, dilation=dilation_val, fusion=fusion
    )


REFERENCES = (
    Reference(
        "Jongchan/attention-module:BAM",
        _arguments,
        {
            f"{CHANNEL}fc_0": "channel.0",
            f"{CHANNEL}bn_1": "channel.1",
            f"{CHANNEL}fc_final": "channel.3",
            f"{SPATIAL}conv_reduce0": "spatial.0",
            f"{SPATIAL}bn_reduce0": "spatial.1",
            f"{SPATIAL}conv_di_0": "spatial.3",
            f"{SPATIAL}bn_di_0": "spatial.4",
            f"{SPATIAL}conv_di_1": "spatial.6",
            f"{SPATIAL}bn_di_1": "spatial.7",
            f"{SPATIAL}conv_final": "spatial.9",
        },
        sizes=lambda s: dict(
            gate_channel=s[f"{CHANNEL}fc_0.weight"][1],
            reduction_ratio=s[f"{CHANNEL}fc_0.weight"][1] // s[f"{CHANNEL}fc_0.weight"][0],
        ),
        map="b c h w",
    ),
    Reference(
        "changzy00/pytorch-attention:BAM",
        lambda channel, reduction=16: dict(
            channels=channel, reduction=reduction, fusion="sum", norm_position="last"
        ),
        {
            "channel_attn.mlp": "channel",
            "channel_attn.bn": "channel.3",
            "spatial_attn.conv1": "spatial.0",
            "spatial_attn.conv2.0": "spatial.1",
            "spatial_attn.conv2.1": "spatial.2",
            "spatial_attn.conv2.3": "spatial.4",
            "spatial_attn.conv2.4": "spatial.5",
            "spatial_attn.conv3": "spatial.7",
            "spatial_attn.bn": "spatial.8",
        },
        map="b c h w",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:BAMBlock",
        lambda channel=512, reduction=16, dia_val=2: dict(
            channels=channel, reduction=reduction, dilation=dia_val, fusion="sum"
        ),
        differs=(
            "dilates without padding, so that it runs on 7 x 7 maps only and sees no position "
            "there, and has three hidden layers for one and three dilated convolutions for two"
        ),
        loads=False,
        legacy=Legacy(
            "attention.BAM",
            "channel=512, reduction=16, dia_val=2",
            keras=LegacyKeras(
                differs="has three hidden layers for one and three dilated convolutions for two"
            ),
        ),
    ),
)
