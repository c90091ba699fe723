"""Softmax attention of queries over keys: the map, and the sum over the values without the map.

Queries, keys and values are ``… n d``, ``… m d`` and ``… m e``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from .precision import softmax

# Queries in a slice of the map: few enough for the cache of a processor, many for a product.
ROWS = 256


@torch.fx.wrap  # a traced model keeps it whole: it asks symbols for their sizes and types
def weigh(
    q: Tensor,
    k: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The map ``… n m``: softmax over the keys, in single precision at least.

    Args:
        q: Queries.
        k: Keys.
        scale: Multiplies the scores.
        mask: True where a query may attend, or a bias added to the scores. A query that may attend
            to nothing gets zeros.
        weights: Multiply the scores before the mask.
    """
    scores = (q * scale) @ k.mT
    if weights is not None:
        scores = scores * weights
    if mask is None:
        open_rows = None
    elif mask.dtype == torch.bool:
        open_rows = mask.any(-1, keepdim=True)
        # A finite fill keeps the rows that are wholly closed, and their gradients, free of NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        open_rows = (mask > -torch.inf).any(-1, keepdim=True)
        scores = torch.where(open_rows, scores + mask, 0.0)
    a = softmax(scores, -1)
    return a if open_rows is None else a * open_rows


@torch.fx.wrap
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The sum over the values ``… n e``, in memory that grows with n and not with n².

    The arguments are those of `weigh`; ``dropout`` is the rate of dropping weights of the map.
    """
    if _better_in_slices(q, v, dropout):
        return _attend_in_slices(q, k, v, scale, mask, dropout)
    # The fused kernels want four axes, a dense last one, and one width for keys and values: the
    # narrower of them is padded with zeros, which changes no score and no sum.
    shape = (*q.shape[:-1], v.shape[-1])
    width = max(q.shape[-1], v.shape[-1])
    q, k, v = (_dense(t, width) for t in (q, k, v))
    if q.dim() == 3:
        q, k, v = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
    y = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return y[..., : shape[-1]].reshape(shape)


def _dense(x: Tensor, width: int) -> Tensor:
    if x.shape[-1] < width:
        return pad(x, (0, width - x.shape[-1]))
    return x if x.stride(-1) == 1 else x.contiguous()


def _better_in_slices(q: Tensor, v: Tensor, dropout: float) -> bool:
    """Whether the fused kernel of the CPU would be missed, or would mostly multiply zeros.

    It knows no dropout, in whose place torch builds the whole map. A compiled model has one way.
    """
    if torch.compiler.is_compiling() or q.device.type != "cpu":
        return False
    return dropout > 0 or 2 * q.shape[-1] <= v.shape[-1]


def _attend_in_slices(
    q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Tensor | None, dropout: float
) -> Tensor:
    """Some queries at a time; what a slice of the map needs on the way back is computed again."""

    def read(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return torch.dropout(weigh(q, k, scale=scale, mask=mask), dropout, train=True) @ v

    n = q.shape[-2]
    if n <= ROWS:
        return read(q, k, v, mask)
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    again = partial(checkpoint, read, use_reentrant=False, preserve_rng_state=dropout > 0)
    sums = []
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        seen = mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]
        sums.append((again if learns else read)(q[..., rows, :], k, v, seen))
    return torch.cat(sums, -2)
