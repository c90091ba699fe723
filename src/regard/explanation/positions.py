"""Where the queries and keys of a map lie in the image, although they are windows or patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..surgery.record import SPACE, Axis, Factor

ORDER = "thw"


@dataclass(frozen=True, eq=False)
class Positions:
    """The places of tokens in a grid.

    Attributes:
        grid: The sides of the grid: rows and columns, after frames if it is a video.
        index: The place of each token, counted row by row; -1 for a token without one, such as a
            class token. For windows ``k n``, otherwise ``n``.
    """

    grid: tuple[int, ...]
    index: Tensor

    def of(self, place: Sequence[float]) -> int:
        """Return the index of a place given by row and column, or frame, row and column.

        Numbers with a point are parts of the whole height and width: ``(0.5, 0.25)``.

        Raises:
            ValueError: there is no such place.
        """
        found = whole(place, self.grid)
        inside = len(found) == len(self.grid) and all(
            0 <= i < size for i, size in zip(found, self.grid, strict=True)
        )
        if not inside:
            size = " × ".join(map(str, self.grid))
            raise ValueError(f"no place {tuple(place)} in a grid of {size}")
        index = 0
        for i, size in zip(found, self.grid, strict=True):
            index = index * size + i
        return index


def whole(place: Sequence[float], grid: Sequence[int]) -> list[int]:
    """Return a place in rows and columns, if it is given in parts of height and width.

    >>> whole((0.5, 1.0), (4, 6)), whole((1, 2), (4, 6))
    ([2, 5], [1, 2])
    """
    if not any(isinstance(i, float) for i in place):
        return [int(i) for i in place]
    if not all(0 <= i <= 1 for i in place):
        return []
    return [min(int(i * size), size - 1) for i, size in zip(place, grid, strict=False)]


class Canonical(NamedTuple):
    """A map with named axes.

    Attributes:
        map: The map.
        axes: The names of its axes.
        queries: Where its queries lie, if they are tokens of a grid.
        keys: Where its keys lie.
    """

    map: Tensor
    axes: str
    queries: Positions | None = None
    keys: Positions | None = None


def canonical(a: Tensor, axes: Sequence[Axis], batch: int, *, branches: str = "") -> Canonical:
    """Bring a map to axes with names, and find where its queries and keys lie.

    Maps between tokens become ``b k heads n m`` (samples, windows, heads, queries, keys), maps
    between channels ``b heads c d``, weights of branches ``b c branches`` and of sampling points
    ``b heads n points``; axes that a map does not have are left out.

    Args:
        a: The map; the last two axes are queries and keys.
        axes: Its axes, as they were followed.
        batch: The number of samples.
        branches: What the keys are if scores are no products of queries and keys, and the keys are
            not tokens.
    """
    lead = [
        factor
        for axis, size in zip(axes[:-2], a.shape[:-2], strict=True)
        for factor in axis.factors or (Factor(axis, size),)
        if factor.size > 1
    ]
    kinds = [kind(factor.axis) for factor in lead]
    if lead and "b" not in kinds and lead[0].size == batch > 1:
        kinds[0] = "b"  # its name was lost, but every function of attention takes samples first
    first = "b" if "b" in kinds or batch == 1 else "1"  # samples and heads in one axis
    sizes = [factor.size for factor in lead]
    query, key = (kind(axis) for axis in axes[-2:])
    a = a.reshape(*sizes, *a.shape[-2:])
    groups = [[i for i, own in enumerate(kinds) if own in one] for one in (["b"], ["k"], ["c", ""])]
    if branches and ((key == "c" and query == "k") or (a.shape[-2] == 1 and key != "k")):
        single = a.shape[-2] == 1
        heads = [i for i, own in enumerate(kinds) if own == "c"]
        rest = [i for i, own in enumerate(kinds) if own in ("k", "")]
        if branches == "points" and first == "b":
            kept, names = [groups[0], heads, rest], [first, "heads", "n"]
        else:
            free = iter("ijlopqrs")
            kept = [groups[0], *([i] for i in range(len(kinds)) if i not in groups[0])]
            one = len(heads) == 1
            names = [
                first,
                *("c" if one and group[0] in heads else next(free) for group in kept[1:]),
            ]
        a = a.squeeze(-2) if single else a
        names += [branches] if single else ["n", branches]
        return Canonical(_grouped(a, sizes, kept), " ".join(names))
    windows = [lead[i] for i in groups[1]]
    heads = groups[2] or (len(axes) > 3 and not windows)
    kept = [groups[0], *([groups[1]] if windows else []), *([groups[2]] if heads else [])]
    names = [first, *(["k"] if windows else []), *(["heads"] if heads else [])]
    channels = ["i", "j"] if branches else ["c", "d"]
    names += channels if query == key == "c" else ["n", "m"]
    places = [positions(axis, windows) if kind(axis) == "k" else None for axis in axes[-2:]]
    return Canonical(_grouped(a, sizes, kept), " ".join(names), *places)


def _grouped(a: Tensor, sizes: Sequence[int], groups: Sequence[Sequence[int]]) -> Tensor:
    """Put the first axes into another order, and those of a group into one."""
    order = [i for group in groups for i in group]
    last = range(len(sizes), a.dim())
    shape = [math.prod(sizes[i] for i in group) for group in groups]
    return a.permute(*order, *last).reshape(*shape, *a.shape[len(sizes) :])


def positions(axis: Axis, windows: Sequence[Factor] = ()) -> Positions | None:
    """Return the places of the tokens of an axis, within windows; None if they are unknown."""
    tokens = axis.factors or (Factor(axis, axis.size),) if kind(axis) == "k" else ()
    before = after = 0
    if grid := axis.class_tokens:
        tokens = tuple(map(Factor, grid.axes, grid.sizes, grid.strides))
        before, after = grid.before, grid.after
    digits = [*windows, *tokens]
    along: dict[Axis, Tensor] = {}  # positions along each axis
    for dim, factor in enumerate(digits):
        steps = torch.arange(factor.size, device="cpu") * factor.stride
        steps = steps.view([-1 if i == dim else 1 for i in range(len(digits))])
        along[factor.axis] = along.get(factor.axis, torch.zeros(1, dtype=torch.long)) + steps
    sides: dict[str, tuple[int, Tensor]] = {}
    for first, places in along.items():
        base, at, step = first, places, math.gcd(first.size, *places.flatten().tolist())
        while base.rolled_from or len(base.factors) == 1:
            if base.rolled_from:
                base, shift = base.rolled_from
                at = (at - shift) % base.size
                step = math.gcd(step, shift)
            else:
                base, _, stride = base.factors[0]
                at, step = at * stride, step * stride
        if base.name in sides or base.name not in ORDER:
            return None
        sides[base.name] = base.size // step, at // step
    if set(sides) not in ({"h", "w"}, {"t", "h", "w"}):
        return None
    order = [name for name in ORDER if name in sides]
    index = torch.zeros(1, dtype=torch.long)
    for name in order:
        index = index * sides[name][0] + sides[name][1]
    sizes = [factor.size for factor in digits]
    index = index.expand(sizes).reshape(math.prod(sizes[: len(windows)]), -1)
    if before or after:
        index = torch.nn.functional.pad(index, (before, after), value=-1)
    return Positions(tuple(sides[name][0] for name in order), index if len(index) > 1 else index[0])


def kind(axis: Axis) -> str:
    """Return ``b``, ``c``, or ``k`` for places and tokens; empty for what is none of them."""
    names = {factor.axis.name for factor in axis.factors} or {axis.name}
    if "b" in names:
        return "b"
    if names <= {*SPACE, "n"}:
        return "k"
    return "c" if names == {"c"} else ""
