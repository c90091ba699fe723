"""Windows of a grid: partition and merging, cyclic shifts, relative positions.

The grid is ``b c *`` and may have any size: it is padded with zeros after its last row and column
to whole windows. The windows are ``b g n c``: g of them row by row, with n positions row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import Tensor
from torch.nn.functional import pad

from . import pairwise
from .tokens import first, laid_out_like
from .tracing import at_least, leaf, recording

Sizes = Sequence[int]


@leaf
def partition(x: Tensor, size: Sizes, *, shift: Sizes = (), strided: bool = False) -> Tensor:
    """Partition a grid ``b c *`` into windows ``b g n c``.

    Args:
        x: The grid.
        size: Size of a window along each axis.
        shift: Positions by which the grid is first rolled towards its start; an axis with a single
            window is not.
        strided: Spread the positions of a window over the whole grid, at equal distances, instead
            of taking neighbors.

    >>> x = torch.arange(6.0).reshape(1, 1, 6)
    >>> partition(x, [3]).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    >>> partition(x, [3], strided=True).flatten().tolist()
    [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    """
    y = filled(x, size).movedim(1, -1)  # b * c
    if any(shift):
        y = _roll(y, _shifts(x, size, shift))
    dims = len(size)
    for axis, side in enumerate(size):
        y = y.unflatten(2 * axis + 1, (side, -1) if strided else (-1, side))
    groups, places = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    if strided:
        groups, places = places, groups
    return y.permute(0, *groups, *places, 2 * dims + 1).flatten(dims + 1, 2 * dims).flatten(1, dims)


@leaf
def filled(x: Tensor, size: Sizes) -> Tensor:
    """Pad a grid ``b c *`` with zeros after its last row and column to whole windows."""
    missing = [
        count * s - n for count, s, n in zip(counts(x, size), size, x.shape[2:], strict=True)
    ]
    # Compiled code must work for every size: no branch on sizes.
    if recording() or any(missing):
        return pad(x, [end for n in reversed(missing) for end in (0, n)])
    return x


@leaf
def merge(y: Tensor, x: Tensor, size: Sizes, *, shift: Sizes = (), strided: bool = False) -> Tensor:
    """Undo `partition`: put windows ``b g n c`` together into a grid as large as x.

    >>> x = torch.randn(2, 3, 7, 5)
    >>> torch.equal(merge(partition(x, (3, 2), shift=(1, 1)), x, (3, 2), shift=(1, 1)), x)
    True
    """
    dims = len(size)
    y = y.unflatten(2, list(size)).unflatten(1, counts(x, size))  # b g.. n.. c
    pairs = ([dims + 1 + i, 1 + i] if strided else [1 + i, dims + 1 + i] for i in range(dims))
    y = y.permute(0, *(axis for pair in pairs for axis in pair), 2 * dims + 1)
    for axis in range(dims):
        y = y.flatten(axis + 1, axis + 2)
    if any(shift):
        y = _roll(y, [-s for s in _shifts(x, size, shift)])
    for axis, n in enumerate(x.shape[2:], 1):
        y = first(y, axis, n)
    return laid_out_like(y.movedim(dims + 1, 1), x)


@leaf
def counts(x: Tensor, size: Sizes) -> list[int]:
    """Return the number of windows along each axis of ``b c *``."""
    return [(n + side - 1) // side for n, side in zip(x.shape[2:], size, strict=True)]


@leaf
def inside(x: Tensor, size: Sizes, *, strided: bool = False) -> Tensor:
    """Return which positions of the windows are no padding, ``g n``.

    >>> inside(torch.zeros(1, 1, 4), [3]).int().tolist()
    [[1, 1, 1], [1, 0, 0]]
    """
    axes = []
    for count, side, n in zip(counts(x, size), size, x.shape[2:], strict=True):
        real = torch.arange(count * side, device=x.device) < n
        axes.append(real.unflatten(0, (side, -1)).T if strided else real.unflatten(0, (-1, side)))
    real = axes[0]
    for other in axes[1:]:
        real = (real[:, None, :, None] & other[None, :, None]).flatten(2).flatten(0, 1)
    return real


def padded(x: Tensor, size: Sizes) -> bool:
    """Return whether a grid may have to be padded: in compiled code, always."""
    # Compiled code must work for every size: no branch on sizes.
    return recording() or any(n % side for n, side in zip(x.shape[2:], size, strict=True))


@leaf
def apart(x: Tensor, size: Sizes, shift: Sizes) -> Tensor:
    """Return where two positions of a window were no neighbors before the shift, ``g n n``."""
    axes = []
    for n, side, s in zip(counts(x, size), size, _shifts(x, size, shift), strict=True):
        place = torch.arange(n * side, device=x.device)
        region = (place >= n * side - side).int() + (place >= n * side - s).int()
        axes.append(region.unflatten(0, (-1, side)))  # windows, places
    region = axes[0]
    for other in axes[1:]:  # three regions along each axis
        region = 3 * region[:, None, :, None] + other[None, :, None]
        region = region.flatten(2).flatten(0, 1)
    return region[:, :, None] != region[:, None]


@leaf
def scaled_dot_product(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Return the weighted sum of the values in each window, ``b g heads n d`` like them.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: Multiplies the scores.
        mask: A mask or a bias ``g heads n n`` for all images; any of the first two may be 1.
        dropout: Dropout rate of the weights.
    """
    first = 0  # the windows join the batch, or, where they differ, the heads
    # Compiled code must work for every size: no branch on sizes.
    if mask is not None and (recording() or mask.shape[0] > 1):
        first, mask = 1, mask.expand(v.shape[1], v.shape[2], -1, -1).flatten(0, 1)[None]
    q, k, v_flat = (t.flatten(first, first + 1) for t in (q, k, v))
    y = pairwise.scaled_dot_product(q, k, v_flat, scale=scale, mask=mask, dropout=dropout)
    return y.reshape(v.shape)


def relative_index(size: Sizes, device: torch.device | None = None) -> Tensor:
    """Return the row of a table of relative positions for each query and key, ``n n``.

    The table has a row for each distance from the key to the query, ``2 side - 1`` along each axis.

    >>> relative_index([3]).tolist()
    [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    """
    axes = [torch.arange(side, device=device) for side in size]
    index = torch.zeros(1, 1, dtype=torch.long, device=device)
    for side, place in zip(size, axes, strict=True):
        distance = place[:, None] - place + side - 1
        index = index[:, None, :, None] * (2 * side - 1) + distance[None, :, None]
        index = index.flatten(2).flatten(0, 1)
    return index


def relative_bias(table: Tensor, size: Sizes) -> Tensor:
    """Return the biases of a table ``distances heads`` for each query and key, ``heads n n``."""
    return table[relative_index(size, table.device)].permute(2, 0, 1)


def table_rows(size: Sizes) -> int:
    """Return the number of rows of a table of relative positions."""
    return torch.Size(2 * side - 1 for side in size).numel()


def log_spaced(distance: Tensor) -> Tensor:
    """Return distances, as parts of the largest, on a logarithmic scale.

    Equation 4 of "Swin Transformer V2", with the factors of its code.
    """
    return distance.sign() * (8 * distance.abs()).log1p() / log(8)


def log_distances(size: Sizes, largest: Sizes, like: Tensor) -> Tensor:
    """Return `log_spaced` distances for each row of a table of relative positions.

    Args:
        size: Size of a window along each axis.
        largest: Size of the window whose largest distance becomes 1.
        like: Has the dtype and the device of the result.
    """
    axes = [
        torch.arange(1 - side, side, device=like.device, dtype=like.dtype) / max(most - 1, 1)
        for side, most in zip(size, largest, strict=True)
    ]
    return log_spaced(torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, -2))


def _shifts(x: Tensor, size: Sizes, shift: Sizes) -> list[int]:
    """Return the shift of each axis, zero where there is a single window, without a branch."""
    return [s - s * at_least(2 - n, 0) for n, s in zip(counts(x, size), shift, strict=True)]


def _roll(y: Tensor, shifts: Sizes) -> Tensor:
    """Roll ``b * c`` towards the start."""
    if not recording():
        return y.roll([-s for s in shifts], list(range(1, len(shifts) + 1)))
    for axis, s in enumerate(shifts, 1):  # exporters know no roll by a symbol
        n = y.shape[axis]
        place = torch.arange(n, device=y.device) + s
        place = torch.where(place >= n, place - n, torch.where(place < 0, place + n, place))
        y = y.index_select(axis, place)
    return y
