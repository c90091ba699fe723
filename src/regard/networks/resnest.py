"""ResNeSt: a residual network of convolutions with split attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import positive
from ..mechanisms.split_attention import SplitAttention
from .classifier import Classifier, init_kaiming


class ResNeSt(Classifier):
    """The classifier of "ResNeSt: Split-Attention Networks".

    A ResNet of bottlenecks with `SplitAttention` as their second convolution; average pools have
    the strides, after it and in the shortcut, and the stem has three small convolutions.

    Args:
        layers: Blocks of each stage: (3, 4, 6, 3) is ResNeSt-50; with 64
            ``stem_channels``, (3, 4, 23, 3) is ResNeSt-101, (3, 24, 36, 3) ResNeSt-200 and
            (3, 30, 48, 8) ResNeSt-269.
        num_classes: Number of scores; 0 returns the averaged features.
        in_chans: Channels of an image.
        width: Channels of the first stage's bottlenecks, twice as many in each next stage.
        stem_channels: Channels of the first convolution.
        radix: Splits of each convolution.
        groups: Groups of each convolution, the paper's cardinality.
        drop_rate: Dropout rate of the averaged features.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    Raises:
        ValueError: a size is not positive, or the groups or splits do not divide the width.

    >>> ResNeSt((1, 1), num_classes=10, width=8)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in ResNeSt(device="meta").parameters())
    27483240
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        width: int = 64,
        stem_channels: int = 32,
        radix: int = 2,
        groups: int = 1,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width, stem_channels=stem_channels)
        super().__init__(width * 2 * 2 ** len(layers), drop_rate)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            *_conv_norm(in_chans, stem_channels, 3, 2, **factory),
            nn.ReLU(),
            *_conv_norm(stem_channels, stem_channels, 3, **factory),
            nn.ReLU(),
            *_conv_norm(stem_channels, 2 * stem_channels, 3, **factory),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages = []
        in_channels = 2 * stem_channels
        for i, number in enumerate(layers):
            positive(layers=number)
            channels = width * 4 * 2**i
            options = {"radix": radix, "groups": groups, **factory}
            first = _Bottleneck(in_channels, channels, stride=2 if i else 1, **options)
            others = (_Bottleneck(channels, channels, **options) for _ in range(number - 1))
            stages.append(nn.Sequential(first, *others))
            in_channels = channels
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes)
        init_kaiming(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features before averaging, with 1/32 of the image's height and width."""
        return self.stages(self.stem(x))


def _conv_norm(
    channels: int, out: int, kernel_size: int = 1, stride: int = 1, **factory: Any
) -> list[nn.Module]:
    size = (kernel_size, stride, kernel_size // 2)
    convolution = nn.Conv2d(channels, out, *size, bias=False, **factory)
    return [convolution, nn.BatchNorm2d(out, **factory)]


class _Bottleneck(nn.Module):
    """A bottleneck with split attention; average pools have the strides of both paths."""

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        stride: int = 1,
        radix: int,
        groups: int,
        **factory: Any,
    ) -> None:
        super().__init__()
        hidden = out // 4
        self.branch = nn.Sequential(
            *_conv_norm(channels, hidden, **factory),
            nn.ReLU(),
            SplitAttention(hidden, radix=radix, groups=groups, **factory),
            nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity(),
            *_conv_norm(hidden, out, **factory),
        )
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        if stride > 1 or channels != out:
            shortcut += _conv_norm(channels, out, **factory)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()
