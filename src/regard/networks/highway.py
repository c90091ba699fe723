"""Highway network: ten layers of gated convolutions that classify digits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import positive, probability
from ..mechanisms.highway import Highway
from .classifier import Classifier

POOLED = (2, 5, 8)  # highway layers after which height and width are halved


class HighwayNetwork(Classifier):
    r"""The classifier of MNIST's digits of "Training Very Deep Networks".

    A :math:`5 \times 5` convolution, eight `regard.Highway` layers and a linear one; height
    and width are halved after the third, the sixth and the ninth of these ten.

    Args:
        num_classes: Number of scores; 0 returns the flattened features.
        in_chans: Channels of an image.
        width: Channels of all layers.
        image_size: Height and width of an image, which the last layer fixes.
        dropout: Dropout rates after the first layer and after each of the three pools.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    Raises:
        ValueError: a size is not positive or too small for the pools, or there are not four rates.

    >>> HighwayNetwork()(torch.randn(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in HighwayNetwork().parameters())
    151690
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 1,
        *,
        width: int = 32,
        image_size: int = 28,
        dropout: Sequence[float] = (0.2, 0.3, 0.4, 0.5),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width, image_size=image_size)
        side = (image_size - 4) // 2 ** len(POOLED)
        if side < 1:
            raise ValueError(f"image_size must be 12 or more, got {image_size}")
        if len(dropout) != 1 + len(POOLED):
            raise ValueError(f"dropout must be {1 + len(POOLED)} rates, got {dropout!r}")
        for rate in dropout:
            probability(dropout=rate)
        super().__init__(width * side**2, flatten=True)
        self.image_size = image_size
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        first, *rates = dropout
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 5, **factory), nn.ReLU(), nn.Dropout(first)
        )
        layers: list[nn.Module] = []
        for i in range(1, POOLED[-1] + 1):
            layers.append(Highway(width, **factory))
            if i in POOLED:
                layers += [nn.MaxPool2d(2), nn.Dropout(rates[POOLED.index(i)])]
        self.layers = nn.Sequential(*layers)
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features after the last pool.

        Raises:
            ValueError: the size of the image is not ``image_size``.
        """
        side = self.image_size
        if tuple(x.shape[2:]) != (side, side):
            raise ValueError(
                f"HighwayNetwork: expected images of {side} x {side} (image_size), "
                f"got {tuple(x.shape)}"
            )
        return self.layers(self.stem(x))
