"""The symmetries of a mechanism, found by trying them on a random instance.

Each is an action on groups of axes, the axes of one group moving together:

- ``pixels``: the positions of the grid, over all of its axes at once; the tokens of each sequence;
- ``channels``: the entries of a channel axis;
- ``frames``: the entries of ``t``.

An output is *equivariant* when it moves as the input does (what has no such axis stays), a map is
*invariant* when it stays, and slices are *independent* when a slice of the output stays while all
other slices of the input change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cases import GRID, bound, draw, map_of, of_levels, patterns
from closeness import flat, same
from regard.core.attention import Mechanism
from regard.core.shapes import expand, split

CHANNELS = "cdef"
TOKENS = "nm"
Axes = tuple[str, ...]
Move = Callable[[Tensor, int], Tensor]


def axes_of(module: Mechanism) -> dict[str, list[Axes]]:
    """The groups of axes that each symmetry moves, for those that the input has."""
    letters = {axis for pattern in patterns(module) for axis in pattern.split()}
    grid = tuple(axis for axis in GRID if axis in letters)
    found: dict[str, list[Axes]] = {
        "pixels": [(axis,) for axis in TOKENS if axis in letters] + ([grid] if grid else []),
        "channels": [(axis,) for axis in CHANNELS if axis in letters],
        "frames": [("t",)] if "t" in letters else [],
    }
    return {name: groups for name, groups in found.items() if groups}


def act(tensors: Any, patterns: list[str], moves: dict[Axes, Move]) -> tuple[Tensor, ...]:
    """Move the groups of axes that a tensor has as a whole."""
    return tuple(_act(x, p, moves) for x, p in zip(flat(tensors), patterns, strict=True))


def _act(x: Tensor, pattern: str, moves: dict[Axes, Move]) -> Tensor:
    names = expand(pattern, x.dim()).split()
    for axes, move in moves.items():
        if all(axis in names for axis in axes):
            start, end = names.index(axes[0]), names.index(axes[-1])
            x = move(x.flatten(start, end), start).unflatten(start, x.shape[start : end + 1])
    return x


def outputs(module: Mechanism) -> list[str]:
    return of_levels(module, list(split(module.axes.output).values()))


def _permutations(module: Mechanism, name: str, inputs: tuple[Tensor, ...]) -> dict[Axes, Move]:
    sizes = bound(module, inputs)
    random = torch.Generator().manual_seed(3)

    def permute(axes: Axes) -> Move:
        order = torch.randperm(torch.Size(sizes[a] for a in axes).numel(), generator=random)
        return lambda x, axis: x.index_select(axis, order)

    return {axes: permute(axes) for axes in axes_of(module)[name]}


def equivariances(module: Mechanism) -> set[str]:
    """The symmetries that the output follows."""
    inputs = draw(module)
    held = set()
    for name in axes_of(module):
        moves = _permutations(module, name, inputs)
        moved = act(inputs, patterns(module), moves)
        if same(flat(module(*moved)), act(module(*inputs), outputs(module), moves)):
            held.add(name)
    return held


def invariances(module: Mechanism) -> set[str]:
    """The symmetries that the map does not see."""
    inputs = draw(module)
    held = set()
    for name in axes_of(module):
        moved = act(inputs, patterns(module), _permutations(module, name, inputs))
        if same(map_of(module, moved), map_of(module, inputs)):
            held.add(name)
    return held


def independences(module: Mechanism) -> set[str]:
    """The axes along which slices do not see one another; the first, second and last are tried."""
    inputs, others = draw(module), draw(module, seed=4)
    y = flat(module(*inputs))

    def alone(groups: list[Axes], kept: int) -> bool:
        moves = {axes: lambda x, axis: _only(x, axis, kept) for axes in groups}
        masks = act([torch.ones_like(x) for x in inputs], patterns(module), moves)
        mixed = (x * m + o * (1 - m) for x, m, o in zip(inputs, masks, others, strict=True))
        return same(act(module(*mixed), outputs(module), moves), act(y, outputs(module), moves))

    seen = [expand(p, t.dim()).split() for p, t in zip(outputs(module), y, strict=True)]
    return {
        name
        for name, groups in axes_of(module).items()
        if all({axis for axes in groups for axis in axes} & set(names) for names in seen)
        and all(alone(groups, kept) for kept in (0, 1, -1))
    }


def _only(x: Tensor, axis: int, kept: int) -> Tensor:
    """The tensor with every other slice put to zero."""
    mask = torch.zeros_like(x)
    mask.select(axis, kept).fill_(1)
    return x * mask
