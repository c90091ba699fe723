"""Attention without a map: products of features of queries and keys, in time that grows with n.

Features are ``… n d`` for queries and ``… m d`` for keys, and not negative; values are ``… m e``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import matmul, widen
from .tracing import leaf


@leaf
def weighted_sum(q: Tensor, k: Tensor, v: Tensor, eps: float, *, mean: bool = False) -> Tensor:
    """Return :math:`q (k^T v)` divided by its weights' sum, ``… n e``.

    Args:
        q: Features of the queries.
        k: Features of the keys.
        v: Values.
        eps: Added to the sums of the weights.
        mean: Average over the keys instead of summing, so that eps counts more.

    >>> q, k, v = torch.rand(3, 4), torch.rand(5, 4), torch.rand(5, 2)
    >>> torch.allclose(weighted_sum(q, k, v, 1e-9), weights(q, k, 1e-9) @ v)
    True
    """
    sums, products = _total(k, mean), matmul(k.transpose(-2, -1), v)
    if mean:
        products = products / k.shape[-2]
    return (matmul(q, products) / (matmul(q, sums) + eps)).to(v.dtype)


@leaf
def weights(
    q: Tensor, k: Tensor, eps: float, *, mean: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """Return the map ``… n m`` that `weighted_sum` does not build, in the dtype of q by default."""
    products = matmul(q, k.transpose(-2, -1))
    if mean:
        products = products / k.shape[-2]
    return (products / (matmul(q, _total(k, mean)) + eps)).to(dtype or q.dtype)


def _total(k: Tensor, mean: bool) -> Tensor:
    """Return the sum or the mean of the keys, ``… d 1``."""
    wide = widen(k)
    return (wide.mean(-2) if mean else wide.sum(-2)).unsqueeze(-1)
