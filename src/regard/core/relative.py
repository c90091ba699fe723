"""Scores by relative position along each axis, as further channels of queries and keys.

What a query at row i adds to its score for a key at row j depends on no other position of the key:
it is the product of the query's numbers for all rows and an indicator of the key's row. Queries and
keys that are longer by the rows and columns thus need no biases of n x n beside the scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .tracing import leaf


@leaf
def along(q: Tensor, x: Tensor, axis: int, embeddings: Tensor) -> Tensor:
    """Return the scores of queries for each place of the keys along an axis, ``b heads n k``.

    Args:
        q: Queries ``b heads n d``, of the positions of x row by row.
        x: The grid of the queries, ``b c *``.
        axis: The axis of the grid, from 0.
        embeddings: One for each place of queries and keys, ``q k d``, or the same for all queries,
            ``1 k d``.
    """
    y = q.unflatten(2, x.shape[2:]).movedim(axis + 2, 2)
    turned = embeddings.transpose(1, 2)  # q d k
    if x.dim() == 3:
        return (y.unsqueeze(-2) @ turned).squeeze(-2)
    for _ in range(x.dim() - 4):
        turned = turned.unsqueeze(1)
    return (y @ turned).movedim(2, axis + 2).flatten(2, -2)


@leaf
def extended(
    q: Tensor, k: Tensor, scores: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return queries and keys whose products have the scores along all axes added.

    Args:
        q: Queries ``b heads n d``.
        k: Keys ``b heads m d``, of the positions of a grid row by row.
        scores: The scores `along` each axis of the grid of the keys.
        sizes: The size of that grid.
    """
    parts, after = [], 1
    for size in reversed(sizes):
        place = torch.arange(k.shape[2], device=k.device) // after % size
        here = place[:, None] == torch.arange(size, device=k.device)
        parts.insert(0, here.to(k.dtype).expand(*k.shape[:2], -1, -1))
        after = after * size
    return torch.cat([q, *scores], -1), torch.cat([k, *parts], -1)


@leaf
def resampled(table: Tensor, rows: int) -> Tensor:
    """Interpolate a table ``rows d`` to another number of rows."""
    return interpolate(table.T[None], rows, mode="linear", align_corners=True)[0].T
