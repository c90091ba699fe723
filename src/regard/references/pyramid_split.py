"""Pyramid split attention in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from .record import Legacy, LegacyKeras, Options, Reference


def _authors(
    inplans: int,
    planes: int,
    conv_kernels: Sequence[int] = (3, 5, 7, 9),
    stride: int = 1,
    conv_groups: Sequence[int] = (1, 4, 8, 16),
) -> Options:
    return dict(
        in_channels=inplans,
        out_channels=planes,
        kernel_sizes=conv_kernels,
        stride=stride,
        kernel_groups=conv_groups,
    )


def _xmu(channel: int = 512, reduction: int = 4, S: int = 4) -> Options:
    kernels = tuple(2 * i + 3 for i in range(S))
    # The authors' groups, 1 4 8 16, as far as they divide a kernel's channels.
    groups = tuple(gcd(2 ** (i + 1), channel // S) if i else 1 for i in range(S))
    return dict(
        in_channels=channel, kernel_sizes=kernels, kernel_groups=groups, reduction=reduction
    )


REFERENCES = (
    Reference(
        "murufeng/EPSANet:PSAModule",
        _authors,
        {
            "se.fc1": "squeeze",
            "se.fc2": "excite",
            **{f"conv_{i + 1}": f"branches.{i}" for i in range(9)},
        },
        map="b k d 1 1",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:PSA",
        _xmu,
        differs=(
            "does not register its layers, so that nothing of it is trained or saved, writes into "
            "its input, and gives each kernel a part of the channels"
        ),
        loads=False,
        legacy=Legacy(
            "attention.PSA",
            "channel=512, reduction=8",
            keras=LegacyKeras(differs="takes the softmax over the channels instead of the kernels"),
        ),
    ),
)
