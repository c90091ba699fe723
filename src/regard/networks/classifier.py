"""The base class of the networks of this package: features, average pooling, a linear layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from ..core import grid
from ..core.check import positive, probability


class Classifier(nn.Module, ABC):
    """Scores averaged features by one linear layer, ``fc``.

    A network defines `forward_features` and ends its constructor with `reset_classifier`. The names
    are those of timm, whose scripts use them.

    Args:
        num_features: Inputs of ``fc``.
        drop_rate: Dropout rate of these inputs.
        flatten: Flatten the features instead of averaging them.
    """

    fc: nn.Linear | nn.Identity

    def __init__(self, num_features: int, drop_rate: float = 0.0, *, flatten: bool = False) -> None:
        super().__init__()
        probability(drop_rate=drop_rate)
        self.drop = nn.Dropout(drop_rate)
        self.num_features, self.flatten = num_features, flatten

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features at each position."""

    @final
    def forward_head(self, x: Tensor) -> Tensor:
        """Score the features."""
        return self.fc(self.drop(x.flatten(1) if self.flatten else grid.mean(x)))

    @final
    def forward(self, x: Tensor) -> Tensor:
        """Score each class."""
        return self.forward_head(self.forward_features(x))

    @final
    def get_classifier(self) -> nn.Module:
        """Return the linear layer."""
        return self.fc

    @final
    def reset_classifier(self, num_classes: int) -> None:
        """Replace the linear layer by a new one.

        Args:
            num_classes: Number of scores; 0 returns the inputs of the layer.
        """
        if num_classes != 0:
            positive(num_classes=num_classes)
        like = next(self.parameters())
        factory = {"device": like.device, "dtype": like.dtype}
        self.num_classes = num_classes
        if num_classes == 0:
            self.fc = nn.Identity()
        else:
            self.fc = nn.Linear(self.num_features, num_classes, **factory)


def init_kaiming(model: nn.Module) -> None:
    """Initialize all convolutions as He et al. do for layers before a ReLU."""
    for module in model.modules():
        # On the meta device, normal initialization would load the compiler, which takes seconds.
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
