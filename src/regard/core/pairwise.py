"""Softmax attention of queries over keys: heads, the map, and the output without the map.

Queries, keys and values are ``… n d``, ``… m d`` and ``… m e``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from .precision import matmul, softmax
from .tracing import leaf, recording

# Queries in a slice of the map: few enough for a CPU's cache, enough for a fast matrix product.
ROWS = 256


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split the channels between the heads: ``b n c`` to ``b heads n d``."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Concatenate the channels of the heads: ``b heads n d`` to ``b n c``."""
    return x.transpose(1, 2).flatten(2)


@leaf
def attention_weights(
    q: Tensor,
    k: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Return the map ``… n m``: softmax over the keys, in single precision at least.

    Args:
        q: Queries.
        k: Keys.
        scale: Multiplies the scores.
        mask: True where a query may attend, or a bias added to the scores. A query that may attend
            to nothing gets zeros.
        causal: Mask the keys after a query's position. If there are more keys than queries or
            fewer, the last query and the last key have the same position.
    """
    scores = matmul(q * scale, k.transpose(-2, -1))
    if causal:
        mask = and_mask(mask, _causal(scores.shape[-2], scores.shape[-1], scores.device))
    if mask is None:
        open_rows = None
    elif mask.dtype == torch.bool:
        open_rows = mask.any(-1, keepdim=True)
        # A finite fill keeps rows that are fully masked, and their gradients, free of NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        open_rows = (mask > -torch.inf).any(-1, keepdim=True)
        scores = torch.where(open_rows, scores + mask, 0.0)
    a = softmax(scores, -1, q.dtype)
    return a if open_rows is None else a * open_rows


@leaf
def scaled_dot_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Return the weighted sum of the values, ``… n e``, in memory that grows with n, not n².

    The arguments are those of `attention_weights`, and ``dropout``, the rate for the weights.
    """
    if _better_in_slices(q, v, dropout):
        return _in_slices(q, k, v, scale, mask, causal, dropout)
    n, m = q.shape[-2], k.shape[-2]
    if causal and (mask is not None or n != m):
        mask, causal = and_mask(mask, _causal(n, m, q.device)), False
    # The fused kernels need four axes, a dense last one, and equal widths of keys and values: the
    # narrower ones are padded with zeros, which changes neither scores nor sums.
    shape = (*q.shape[:-1], v.shape[-1])
    width = max(q.shape[-1], v.shape[-1])
    q, k, v = (_dense(t, width) for t in (q, k, v))
    if q.dim() == 3:
        q, k, v = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
    y = scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale)
    return y[..., : shape[-1]].reshape(shape)


def _causal(n: int, m: int, device: torch.device, rows: slice = slice(None)) -> Tensor:
    """Return the causal mask ``n m`` for some rows of queries, aligned at the last position."""
    return torch.arange(n, device=device)[rows, None] + (m - n) >= torch.arange(m, device=device)


def and_mask(mask: Tensor | None, allowed: Tensor) -> Tensor:
    """Restrict a mask, boolean or added to the scores, to where ``allowed`` is True."""
    if mask is None:
        return allowed
    return mask & allowed if mask.dtype == torch.bool else mask.masked_fill(~allowed, -torch.inf)


def _dense(x: Tensor, width: int) -> Tensor:
    if x.shape[-1] < width:
        return pad(x, (0, width - x.shape[-1]))
    return x if x.stride(-1) == 1 else x.contiguous()


def _better_in_slices(q: Tensor, v: Tensor, dropout: float) -> bool:
    """Return whether slices beat the CPU's fused kernel: with dropout, or much wider values.

    The kernel has no dropout, so that torch would build the whole map, and with much wider values
    it would mostly multiply padding. Compiled code has one branch only. On the meta device, where
    costs are counted, the choice is that of the CPU.
    """
    if recording() or q.device.type not in ("cpu", "meta"):
        return False
    return dropout > 0 or 2 * q.shape[-1] <= v.shape[-1]


def _in_slices(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    mask: Tensor | None,
    causal: bool,
    dropout: float,
) -> Tensor:
    """Attend with `ROWS` queries at a time, and recompute each slice of the map in backward."""

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return (
            torch.dropout(attention_weights(q, k, scale=scale, mask=mask), dropout, train=True) @ v
        )

    n, m = q.shape[-2], k.shape[-2]
    learns = n > ROWS and torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    recomputed = partial(checkpoint, attend, use_reentrant=False, preserve_rng_state=dropout > 0)
    sums = []
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        part = mask if mask is None or mask.shape[-2] == 1 else mask[..., rows, :]
        if causal:
            part = and_mask(part, _causal(n, m, q.device, rows))
        sums.append((recomputed if learns else attend)(q[..., rows, :], k, v, part))
    return torch.cat(sums, -2)
