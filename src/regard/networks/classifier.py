"""What the networks written out here share: features, one vector of them, a layer that scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from ..core import grid
from ..core.check import positive, probability


class Classifier(nn.Module, ABC):
    """Scores its features by one linear layer, ``fc``, that sees their average.

    A network writes `forward_features` and ends its constructor with `reset_classifier`. The names
    are timm's, whose scripts ask for them.

    Args:
        num_features: Numbers that ``fc`` sees.
        drop_rate: Rate of dropping them in training.
        flat: Let it see all positions instead of their average.
    """

    fc: nn.Linear | nn.Identity

    def __init__(self, num_features: int, drop_rate: float = 0.0, *, flat: bool = False) -> None:
        super().__init__()
        probability(drop_rate=drop_rate)
        self.drop = nn.Dropout(drop_rate)
        self.num_features, self.flat = num_features, flat

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """The features, position by position."""

    @final
    def forward_head(self, x: Tensor) -> Tensor:
        """Score the features."""
        return self.fc(self.drop(x.flatten(1) if self.flat else grid.mean(x)))

    @final
    def forward(self, x: Tensor) -> Tensor:
        """Score each class."""
        return self.forward_head(self.forward_features(x))

    @final
    def get_classifier(self) -> nn.Module:
        """The layer that scores."""
        return self.fc

    @final
    def reset_classifier(self, num_classes: int) -> None:
        """Score other classes, by a new layer.

        Args:
            num_classes: Scores of an image; 0 gives what ``fc`` would see.
        """
        if num_classes != 0:
            positive(num_classes=num_classes)
        like = next(self.parameters())
        factory = {"device": like.device, "dtype": like.dtype}
        self.num_classes = num_classes
        none = num_classes == 0
        self.fc = nn.Identity() if none else nn.Linear(self.num_features, num_classes, **factory)


def kaiming(model: nn.Module) -> None:
    """Draw the kernels of all convolutions as He et al. do for layers before a ReLU."""
    for module in model.modules():
        # Drawing normal numbers on the meta device would load the compiler, which takes seconds.
        if isinstance(module, (nn.Conv2d, nn.Conv3d)) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
