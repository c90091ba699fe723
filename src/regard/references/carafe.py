"""CARAFE in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _mmcv(
    channels: int,
    scale_factor: int,
    up_kernel: int = 5,
    up_group: int = 1,
    encoder_kernel: int = 3,
    encoder_dilation: int = 1,
    compressed_channels: int = 64,
) -> Options:
    return dict(
        channels=channels,
        scale_factor=scale_factor,
        kernel_size=up_kernel,
        groups=up_group,
        encoder_kernel_size=encoder_kernel,
        encoder_dilation=encoder_dilation,
        hidden_dim=compressed_channels,
    )


REFERENCES = (
    Reference(
        "mmcv:CARAFEPack",
        _mmcv,
        {"channel_compressor": "compress", "content_encoder": "encode"},
        map="b g_k y x",
    ),
)
