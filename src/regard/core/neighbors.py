"""What reads the neighbors of each position: their weighted sum, and the average of a stride."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from .tracing import leaf


@leaf
def gather(a: Tensor, x: Tensor, side: int, stride: int = 1) -> Tensor:
    """Sum the window around each position, with zeros outside the image, by weights of its own.

    Neighbor by neighbor: a copy of every window would be as many times the size of x, and takes
    a processor several times as long.

    Args:
        a: The weights ``b g k y x``, k = side² row by row; each group is for as many channels.
        x: The image ``b c h w``.
        side: Side of the window, odd.
        stride: Steps between the windows.
    """
    x = pad(x, [side // 2] * 4).unflatten(1, (a.shape[1], -1))  # b g d h w
    return weighted_sum(a, x, side, stride).flatten(1, 2)


@leaf
def weighted_sum(a: Tensor, x: Tensor, side: int, stride: int = 1) -> Tensor:
    """The same, ``b g d y x``, of an image ``b g d h w`` that has its border already."""
    # A compiler finds its own way back through the sum.
    total = _sum if torch.compiler.is_compiling() else _WeightedSum.apply
    return total(a, x, side, stride)


def _sum(a: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    y = _neighbor(0, a, x, side, stride) * a[:, :, :1]
    for i in range(1, side**2):
        y = torch.addcmul(y, _neighbor(i, a, x, side, stride), a[:, :, i : i + 1])
    return y


def _neighbor(i: int, a: Tensor, x: Tensor, side: int, stride: int) -> Tensor:
    """What stands at the i-th place of every window: a view of the image."""
    top, left = divmod(i, side)
    rows, columns = ((n - 1) * stride + 1 for n in a.shape[3:])
    return x[..., top : top + rows : stride, left : left + columns : stride]


class _WeightedSum(torch.autograd.Function):
    """The same sum; on the way back the views share one gradient, instead of one image for each."""

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
            place = _neighbor(i, a, of_x, ctx.side, ctx.stride)
            place.addcmul_(a[:, :, i : i + 1], gradient)
        return torch.cat(of_a, 2), of_x, None, None


@leaf
def avg_pool(x: Tensor, stride: int) -> Tensor:
    """Average windows that do not overlap; the last ones have what is left of the image."""
    if stride == 1:
        return x
    # A compiled model is for every size: it has no second way.
    if not torch.compiler.is_compiling() and all(n % stride == 0 for n in x.shape[2:]):
        return avg_pool2d(x, stride)
    edge = (0, stride - 1) * 2
    inside = pad(x.new_ones(1, 1, *x.shape[2:]), edge)
    return avg_pool2d(pad(x, edge), stride) / avg_pool2d(inside, stride)
