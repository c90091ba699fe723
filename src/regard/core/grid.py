"""Tensors of any number of axes of space and time: ``b c *``."""

from __future__ import annotations

import torch
from torch import Tensor


def mean(x: Tensor) -> Tensor:
    """The average of each channel, ``b c``."""
    return x.flatten(2).mean(2)


@torch.fx.wrap  # a traced model keeps it whole: it asks a symbol for its sizes
def several(z: Tensor, who: str, training: bool) -> Tensor:
    """Pass on what a batch norm will see behind a pool; refuse one value for each channel.

    Raises:
        ValueError: a single image in training, of which there is no variance.
    """
    if training and z.numel() == z.shape[1]:
        raise ValueError(
            f"{who}: in training its norm behind the pool sees one value for each channel and has "
            "no variance to divide by: use a batch of two or more, or eval()"
        )
    return z


@torch.fx.wrap  # a traced model keeps it whole: a symbol has no rank
def spread(a: Tensor, x: Tensor) -> Tensor:
    """Give a ``b c`` gate the trailing ones that let it weigh ``x``."""
    return a.reshape(*a.shape, *[1] * (x.dim() - a.dim()))
