"""Involution in other people's code."""

from __future__ import annotations

from ..core.check import divides
from .record import Legacy, Options, Reference


def _xmu(
    kernel_size: int, in_channel: int = 4, stride: int = 1, group: int = 1, ratio: int = 4
) -> Options:
    divides(in_channel=in_channel, group=group)
    return dict(
        channels=in_channel,
        kernel_size=kernel_size,
        stride=stride,
        reduction=ratio,
        group_width=in_channel // group,
        bias=True,
    )


REFERENCES = (
    Reference(
        "d-li14/involution:involution",
        lambda channels, kernel_size, stride: dict(
            channels=channels, kernel_size=kernel_size, stride=stride
        ),
        {"conv1.conv": "squeeze", "conv1.bn": "norm", "conv2.conv": "span"},
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:Involution",
        _xmu,
        {"conv1": "squeeze", "bn": "norm", "conv2": "span"},
        map="b g 1 k h w",
        legacy=Legacy("conv.Involution", "kernel_size=3, in_channel=4, stride=2"),
    ),
)
