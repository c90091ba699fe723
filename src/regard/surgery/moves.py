"""Where the elements of a tensor go when they are moved: transposed, reshaped, cut, selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


class Move(NamedTuple):
    """Where the elements of a result were before.

    Attributes:
        shape: The sizes of the result.
        lines: Along each of its axes, from its first element: the index of each element.
        whole: Whether all elements are there, in their order.
        regular: Whether the axes move independently, so that the lines tell the rest.
    """

    shape: tuple[int, ...]
    lines: list[Tensor]
    whole: bool
    regular: bool


def moves_of(func: Callable[..., Any], args: Any, kwargs: Any, x: Tensor) -> list[Move]:
    """Run a function on the indices of all elements, which shows where each element goes."""

    def run(given: Tensor) -> list[Tensor]:
        call = tree_map(lambda y: given if y is x else y, (args, kwargs))
        try:
            return [y for y in tree_leaves(func(*call[0], **call[1])) if isinstance(y, Tensor)]
        except (RuntimeError, TypeError, IndexError, ValueError):
            return []

    # Most results are views, whose strides tell the indices without any being computed.
    blank = torch.empty(x.shape, device="meta")
    found = run(blank)
    storage = blank.untyped_storage()._cdata
    if found and all(y.untyped_storage()._cdata == storage for y in found):
        return [_of_view(y, x.numel()) for y in found]
    index = torch.arange(x.numel(), device="cpu" if x.is_meta else x.device).view(x.shape)
    return [_of_indices(y, x.numel()) for y in run(index)]


def _of_view(y: Tensor, numel: int) -> Move:
    first = y.storage_offset()
    steps = zip(y.shape, y.stride(), strict=True)
    lines = [first + step * torch.arange(size, device="cpu") for size, step in steps]
    return Move(tuple(y.shape), lines, y.is_contiguous() and y.numel() == numel, regular=True)


def _of_indices(y: Tensor, numel: int) -> Move:
    shape = tuple(y.shape)
    if not y.numel():
        return Move(shape, [], whole=False, regular=False)
    whole = y.numel() == numel and bool((y.flatten().diff() == 1).all())
    lines = [_line(y, j) for j in range(y.dim())]
    predicted = y.flatten()[0]
    for j, line in enumerate(lines):
        predicted = predicted + (line - line[0]).view([-1 if i == j else 1 for i in range(y.dim())])
    return Move(shape, lines, whole, torch.equal(predicted.expand_as(y), y))


def _line(index: Tensor, j: int) -> Tensor:
    """Return the elements along axis ``j`` from the first element."""
    for i in reversed(range(index.dim())):
        if i != j:
            index = index.select(i, 0)
    return index
