"""Sums and averages over windows of an image, in slices that avoid a copy of every window."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from .tracing import leaf, recording


@leaf
def gather(a: Tensor, x: Tensor, side: int, stride: int = 1) -> Tensor:
    """Return the weighted sum of the window around each position, with zeros outside the image.

    The loop is over the side² neighbors: copies of all windows would take side² times the memory
    of x, and several times as long on a CPU.

    Args:
        a: The weights ``b g k y x``, k = side² in rows; each group weighs as many channels.
        x: The image ``b c h w``.
        side: Side of the window, odd.
        stride: Step between the windows.
    """
    x = pad(x, [side // 2] * 4).unflatten(1, (a.shape[1], -1))  # b g d h w
    return weighted_sum(a, x, side, stride).flatten(1, 2)


@leaf
def weighted_sum(a: Tensor, x: Tensor, side: int, stride: int = 1) -> Tensor:
    """Do the work of `gather` for an image ``b g d h w`` that is already padded and grouped.

    The result is ``b g d y x``.
    """
    # Under a compiler, autograd's own backward pass of the sum is as good.
    total = _sum if recording() else _WeightedSum.apply
    return total(a, x, side, stride)


def _sum(a: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    y = _neighbor(0, a, x, side, stride) * a[:, :, :1]
    for i in range(1, side**2):
        y = torch.addcmul(y, _neighbor(i, a, x, side, stride), a[:, :, i : i + 1])
    return y


def _neighbor(i: int, a: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    """Return the i-th entry of every window: a view of the image."""
    top, left = divmod(i, side)
    rows, columns = ((n - 1) * stride + 1 for n in a.shape[3:])
    return x[..., top : top + rows : stride, left : left + columns : stride]


class _WeightedSum(torch.autograd.Function):
    """`_sum`, whose backward pass adds the gradients of all views into one image."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
        return _sum(a, x, side, stride)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        a, x, ctx.side, ctx.stride = inputs
        ctx.save_for_backward(a, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,), (a, x) = gradients, ctx.saved_tensors
        of_a, of_x = [], torch.zeros_like(x)
        for i in range(ctx.side**2):
            part = _neighbor(i, a, x, ctx.side, ctx.stride)
            of_a.append((part * gradient).sum(2, keepdim=True))
            view = _neighbor(i, a, of_x, ctx.side, ctx.stride)
            view.addcmul_(a[:, :, i : i + 1], gradient)
        return torch.cat(of_a, 2), of_x, None, None


@leaf
def avg_pool(x: Tensor, stride: int) -> Tensor:
    """Average windows that do not overlap; at the border they cover what is left of the image."""
    if stride == 1:
        return x
    # Compiled code must work for every size: no branch on sizes.
    if not recording() and all(n % stride == 0 for n in x.shape[2:]):
        return avg_pool2d(x, stride)
    edge = (0, stride - 1) * 2
    inside = pad(x.new_ones(1, 1, *x.shape[2:]), edge)
    return avg_pool2d(pad(x, edge), stride) / avg_pool2d(inside, stride)
