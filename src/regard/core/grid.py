"""Tensors of any number of axes of space and time: ``b c *``."""

from __future__ import annotations

import torch
from torch import Tensor


def mean(x: Tensor) -> Tensor:
    """The average of each channel, ``b c``."""
    return x.flatten(2).mean(2)


@torch.fx.wrap  # a traced model keeps it whole: a symbol has no rank
def spread(a: Tensor, x: Tensor) -> Tensor:
    """Give a ``b c`` gate the trailing ones that let it weigh ``x``."""
    return a.reshape(*a.shape, *[1] * (x.dim() - a.dim()))
