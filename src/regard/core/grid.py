"""Operations on tensors ``b c *``, with any number of axes of space and time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, max_pool3d, threshold

from .tracing import at_least, leaf, recording


@leaf
def mean(x: Tensor) -> Tensor:
    """Return the mean of each channel, ``b c``."""
    return x.mean(tuple(range(2, x.dim())))


@leaf
def amax(x: Tensor, axis: int, keepdim: bool = False) -> Tensor:
    """Return the maximum along an axis.

    `torch.amax` is faster forward, but its backward pass takes several times as long, because it
    splits the gradient between equal values. Compiled code has one branch only.
    """
    if x.requires_grad and torch.is_grad_enabled() and not recording():
        return x.max(axis, keepdim).values
    return x.amax(axis, keepdim)


@leaf
def adaptive_avg_pool2d(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the averages over a grid of bins, which overlap if the sizes do not divide.

    Computed as products with two matrices, which can be exported for dynamic sizes, unlike
    torch's adaptive pooling.
    """
    # Compiled code must work for every size: no branch on sizes.
    if not recording() and tuple(x.shape[2:]) == tuple(size):
        return x
    h, w = size
    return _bins(x, 2, h) @ x @ _bins(x, 3, w).transpose(-2, -1)


def _bins(x: Tensor, axis: int, count: int) -> Tensor:
    n = x.shape[axis]
    i = torch.arange(count, device=x.device)[:, None]
    j = torch.arange(n, device=x.device)
    inside = (j >= i * n // count) & (j < ((i + 1) * n + count - 1) // count)
    weights = inside.to(torch.promote_types(x.dtype, torch.float32))
    return (weights / weights.sum(1, keepdim=True)).to(x.dtype)  # count n


@leaf
def max_pool(x: Tensor, side: int = 2) -> Tensor:
    """Return the maximum of each window of that side, never over time.

    An axis that is shorter than a window is not pooled. Incomplete windows are dropped.
    """
    sides = [side if n >= side else 1 for n in x.shape[2:]]
    if x.dim() == 3:  # not max_pool1d: its length would be fixed by an export
        return max_pool2d(x.unsqueeze(2), (1, *sides)).squeeze(2)
    return max_pool2d(x, sides) if x.dim() == 4 else max_pool3d(x, (1, *sides[1:]))


@leaf
def avg_pool(x: Tensor, side: int) -> Tensor:
    """Return the mean of each window of that side; an axis that is shorter is one window.

    Incomplete windows are dropped.
    """
    return avg_pool2d(x, [min(side, n) for n in x.shape[2:]])


@leaf
def fill_up(x: Tensor, least: int | Sequence[int]) -> Tensor:
    """Append zeros to the axes of space until they are as long as asked for, all alike or each.

    >>> fill_up(torch.ones(1, 1, 3), 5).tolist()
    [[[1.0, 1.0, 1.0, 0.0, 0.0]]]
    """
    sizes = x.shape[2:]
    wanted = [least] * len(sizes) if isinstance(least, int) else least
    # Compiled code must work for every size: no branch on sizes.
    if max(wanted) == 1:
        return x
    if not recording() and all(n >= k for n, k in zip(sizes, wanted, strict=True)):
        return x
    missing = [at_least(k - n, 0) for n, k in zip(sizes, wanted, strict=True)]
    return functional.pad(x, [end for n in reversed(missing) for end in (0, n)])


@leaf
def upsample_like(x: Tensor, like: Tensor, *, align_corners: bool = True) -> Tensor:
    """Interpolate an image bilinearly to the height and width of another."""
    # Compiled code must work for every size: no branch on sizes.
    if not recording() and x.shape[2:] == like.shape[2:]:
        return x
    return interpolate(x, like.shape[2:], mode="bilinear", align_corners=align_corners)


def layer_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """Normalize over the channels of each position."""
    return _layer_norm(x, norm.weight, norm.bias, norm.eps)


@leaf
def _layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    last = x.dim() - 1  # not -1, which the older ONNX exporter cannot read
    x = functional.layer_norm(x.movedim(1, last), weight.shape, weight, bias, eps)
    return x.movedim(last, 1)


def group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """Normalize each group of channels; a group of a single value gives the norm's bias.

    The function of `torch.nn.functional`, which the layer calls, refuses it as an error.
    """
    return torch.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


def relu(x: Tensor) -> Tensor:
    """Return ReLU as an output that may be written to, as networks do with that of a layer.

    The backward pass of `torch.relu` reads its result; this one reads ``x``.
    """
    return threshold(x, 0.0, 0.0)


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return the hard sigmoid, ``min(max(x + 3, 0), 6) / 6``.

    The backward pass of torch's own has its sixth in single precision only.
    """
    return functional.relu6(x + 3) / 6


@leaf
def broadcast_gate(a: Tensor, x: Tensor) -> Tensor:
    """Append axes of size one to a gate ``b c``, so that it can be multiplied by ``x``."""
    return a.reshape(*a.shape, *[1] * (x.dim() - a.dim()))


@leaf
def over_positions(a: Tensor, x: Tensor) -> Tensor:
    """Append an axis of size one for each axis of space and time of ``x``."""
    return a.reshape(*a.shape, *[1] * (x.dim() - 2))
