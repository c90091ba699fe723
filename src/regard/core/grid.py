"""Tensors of any number of axes of space and time: ``b c *``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, max_pool3d

from .tracing import leaf


@leaf
def mean(x: Tensor) -> Tensor:
    """The average of each channel, ``b c``."""
    return x.mean(tuple(range(2, x.dim())))


@leaf
def amax(x: Tensor, axis: int, keepdim: bool = False) -> Tensor:
    """The maximum along an axis.

    ``amax`` is the faster way there, but takes several times as long on the way back, where it
    shares the gradient between equal values. A compiled model has no such second way.
    """
    if x.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return x.max(axis, keepdim).values
    return x.amax(axis, keepdim)


@leaf
def adaptive_avg_pool2d(x: Tensor, size: Sequence[int]) -> Tensor:
    """Average an image over a grid of another size, whose bins overlap where it does not divide.

    As products with two matrices, which export at any size and in both directions; an adaptive pool
    does not.
    """
    # A compiled model is for every size: it has no second way.
    if not torch.compiler.is_compiling() and tuple(x.shape[2:]) == tuple(size):
        return x
    h, w = size
    return _bins(x, 2, h) @ x @ _bins(x, 3, w).mT


def _bins(x: Tensor, axis: int, count: int) -> Tensor:
    n = x.shape[axis]
    i = torch.arange(count, device=x.device)[:, None]
    j = torch.arange(n, device=x.device)
    inside = (j >= i * n // count) & (j < ((i + 1) * n + count - 1) // count)
    weights = inside.to(torch.promote_types(x.dtype, torch.float32))
    return (weights / weights.sum(1, keepdim=True)).to(x.dtype)  # count n


@leaf
def max_pool(x: Tensor, side: int = 2) -> Tensor:
    """The maximum of each window of that side, never over time; an axis that is less is left.

    What does not fill a window is left out.
    """
    sides = [side if n >= side else 1 for n in x.shape[2:]]
    if x.dim() == 3:  # not max_pool1d: its length would be fixed by an export
        return max_pool2d(x.unsqueeze(2), (1, *sides)).squeeze(2)
    return max_pool2d(x, sides) if x.dim() == 4 else max_pool3d(x, (1, *sides[1:]))


@leaf
def avg_pool(x: Tensor, side: int) -> Tensor:
    """The mean of each window of that side; an axis that is shorter is averaged whole.

    What does not fill a window is left out.
    """
    return avg_pool2d(x, [min(side, n) for n in x.shape[2:]])


@leaf
def upsample_like(x: Tensor, like: Tensor, *, align_corners: bool = True) -> Tensor:
    """An image, interpolated bilinearly to the height and width of another."""
    # A compiled model is for every size: it has no second way.
    if not torch.compiler.is_compiling() and x.shape[2:] == like.shape[2:]:
        return x
    return interpolate(x, like.shape[2:], mode="bilinear", align_corners=align_corners)


@leaf
def check_norm_batch(z: Tensor, who: str, training: bool) -> Tensor:
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


@leaf
def broadcast_gate(a: Tensor, x: Tensor) -> Tensor:
    """Give a ``b c`` gate the trailing ones that let it weigh ``x``."""
    return a.reshape(*a.shape, *[1] * (x.dim() - a.dim()))
