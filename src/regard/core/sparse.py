"""Attention of each query to a list of keys of its own, in memory that grows with the lists.

Queries are ``b heads n d``, keys and values ``b heads m d``, and the lists ``n j`` hold indices of
keys. The loops are over the entries of the lists: a copy of all listed keys would take d times the
memory of the map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .precision import widen
from .tracing import leaf, recording


@leaf
def scores(q: Tensor, k: Tensor, lists: Tensor) -> Tensor:
    """Return the products of queries and listed keys ``b heads n j``, in single precision at least.

    >>> q, k = torch.randn(1, 1, 2, 3), torch.randn(1, 1, 5, 3)
    >>> scores(q, k, torch.tensor([[4, 0], [1, 1]])).shape
    torch.Size([1, 1, 2, 2])
    """
    # Under a compiler, autograd's own backward pass is as good.
    products = _scores if recording() else _Scores.apply
    return products(widen(q), widen(k), lists)


@leaf
def weighted_sum(a: Tensor, v: Tensor, lists: Tensor) -> Tensor:
    """Return the sum of the listed values, weighted by ``b heads n j``: ``b heads n d``."""
    total = _sum if recording() else _Sum.apply
    return total(a, v, lists)


def _scores(q: Tensor, k: Tensor, lists: Tensor) -> Tensor:
    return torch.stack([(q * k.index_select(2, at)).sum(-1) for at in lists.unbind(1)], -1)


def _sum(a: Tensor, v: Tensor, lists: Tensor) -> Tensor:
    weights, places = a.unsqueeze(-1).unbind(3), lists.unbind(1)
    y = weights[0] * v.index_select(2, places[0])
    for weight, at in zip(weights[1:], places[1:], strict=True):
        y = torch.addcmul(y, weight, v.index_select(2, at))
    return y


class _Scores(torch.autograd.Function):
    """`_scores`, whose backward pass selects the keys again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q: Tensor, k: Tensor, lists: Tensor) -> Tensor:
        return _scores(q, k, lists)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (q, k, lists) = gradients, ctx.saved_tensors
        return _sum(gradient, k, lists), _spread(gradient, q, k, lists), None


class _Sum(torch.autograd.Function):
    """`_sum`, whose backward pass selects the values again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, v: Tensor, lists: Tensor) -> Tensor:
        return _sum(a, v, lists)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (a, v, lists) = gradients, ctx.saved_tensors
        return _scores(gradient, v, lists), _spread(a, gradient, v, lists), None


def _spread(a: Tensor, x: Tensor, like: Tensor, lists: Tensor) -> Tensor:
    """Add the queries' entries x, weighted by ``b heads n j``, to the keys in their lists."""
    total = torch.zeros_like(like)
    for weight, at in zip(a.unsqueeze(-1).unbind(3), lists.unbind(1), strict=True):
        total = total.index_add_(2, at, weight * x)
    return total
