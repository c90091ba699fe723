"""SCNet: a residual network with self-calibrated convolutions in its bottlenecks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import positive
from ..mechanisms.self_calibrated_conv import SelfCalibratedBottleneck
from .classifier import Classifier, init_kaiming


class SCNet(Classifier):
    r"""The classifier of "Improving Convolutional Networks with Self-Calibrated Convolutions".

    A ResNet whose blocks are `regard.SelfCalibratedBottleneck`; the :math:`3 \times 3`
    convolutions of a stage's first block have its stride.

    Args:
        layers: Blocks of each stage: (3, 4, 6, 3) is SCNet-50, (3, 4, 23, 3) SCNet-101.
        num_classes: Number of scores; 0 returns the averaged features.
        in_chans: Channels of an image.
        width: Channels after the first convolution; the stages have 4, 8, 16, … times as many.
        drop_rate: Dropout rate of the averaged features.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    >>> SCNet((1, 1), num_classes=10, width=8)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in SCNet(device="meta").parameters())
    25564584
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        width: int = 64,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width)
        super().__init__(width * 2 * 2 ** len(layers), drop_rate)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 7, 2, 3, bias=False, **factory),
            nn.BatchNorm2d(width, **factory),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages = []
        in_channels = width
        for i, number in enumerate(layers):
            positive(layers=number)
            channels = width * 4 * 2**i
            first = SelfCalibratedBottleneck(in_channels, channels, stride=2 if i else 1, **factory)
            others = (SelfCalibratedBottleneck(channels, **factory) for _ in range(number - 1))
            stages.append(nn.Sequential(first, *others))
            in_channels = channels
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes)
        init_kaiming(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features before averaging, with 1/32 of the image's height and width."""
        return self.stages(self.stem(x))
