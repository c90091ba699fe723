"""Softmax attention of queries over keys: the map, and the sum over the values without the map.

Queries, keys and values are ``… n d``, ``… m d`` and ``… m e``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from .precision import softmax


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

    The fused kernels want four axes, a dense last one, and one width for keys and values: the
    narrower of the two is padded with zeros, which changes no score and no sum.
    """
    shape = (*q.shape[:-1], v.shape[-1])
    width = max(q.shape[-1], v.shape[-1])
    q, k, v = (pad(t, (0, width - t.shape[-1])).contiguous() for t in (q, k, v))
    if q.dim() == 3:
        q, k, v = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
    y = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return y[..., : shape[-1]].reshape(shape)
