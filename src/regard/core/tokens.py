"""Images and videos ``b c *`` as tokens ``b n c``, and back."""

from __future__ import annotations

import torch
from torch import Tensor

from .tracing import leaf, recording

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


@leaf
def to_tokens(x: Tensor) -> Tensor:
    """Return the positions of ``b c *`` as tokens ``b n c``, row by row."""
    return x.flatten(2).transpose(1, 2)


@leaf
def image_like(y: Tensor, x: Tensor) -> Tensor:
    """Return rows of positions ``b c n`` as a grid ``b c *`` with the size and the layout of x."""
    return laid_out_like(y.unflatten(2, x.shape[2:]), x)


@leaf
def to_grid(y: Tensor, x: Tensor) -> Tensor:
    """Return tokens ``b n c`` as a grid ``b c *`` with the size and the memory layout of x.

    >>> to_grid(torch.zeros(2, 63, 5), torch.zeros(2, 3, 9, 7)).shape
    torch.Size([2, 5, 9, 7])
    """
    return image_like(y.transpose(-2, -1), x)


@leaf
def laid_out_like(y: Tensor, x: Tensor) -> Tensor:
    """Return ``b c *`` with the channels last in memory if those of x are, else first."""
    last = LAST.get(x.dim())
    if last is not None and x.is_contiguous(memory_format=last):
        return y.contiguous(memory_format=last)
    return y.contiguous()


@leaf
def heads_to_grid(y: Tensor, x: Tensor) -> Tensor:
    """Merge the heads ``b heads n d`` to a grid ``b c *`` with the size and the layout of x."""
    return image_like(y.transpose(-2, -1).flatten(1, 2), x)


@leaf
def first(x: Tensor, axis: int, n: int) -> Tensor:
    """Return the first n entries along an axis."""
    if recording():  # a view would be contiguous at some sizes only, and the code for these alone
        return x.index_select(axis, torch.arange(n, device=x.device))
    return x.narrow(axis, 0, n)
