"""Layouts of tensors in a model, and their conversion to the axes of a mechanism."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.shapes import GRIDS, split
from ..core.tracing import leaf
from .record import SPACE, Grid, Value

ORDER = "thwlnm"  # of the axes of space, in a mechanism's input


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor in a network.

    Attributes:
        axes: Their names; ``n`` is an axis of tokens, ``m n`` are tokens in groups.
        channels: The size of ``c``.
        prefix: Number of class tokens that precede the others.
        suffix: Number of class tokens that follow the others.
        grid: The grid of the other tokens in the dry run; empty if there is none.
    """

    axes: str
    channels: int
    prefix: int = 0
    suffix: int = 0
    grid: tuple[int, ...] = ()

    @classmethod
    def of(cls, value: Value, given: str | None = None) -> Layout:
        """Return the layout of a tensor of the dry run.

        Args:
            value: The tensor.
            given: The names of its axes, if the caller knows them.

        Raises:
            ValueError: what an axis is cannot be established, or the tensor has no axes of batch,
                channels and space, or is not floating point.
        """
        shape = value.shape
        if not value.dtype.is_floating_point:
            raise ValueError(f"its output is {value.dtype}, not floating point")
        if not 3 <= len(shape) <= 5:
            raise ValueError(f"its output {shape} has no axes of batch, channels and space")
        names = given.split() if given is not None else names_of(value)
        if len(names) != len(shape):
            raise ValueError(f"layout={given!r} names {len(names)} axes, and its output is {shape}")
        if not valid(names):
            raise ValueError(
                f"the axes of its output {shape} cannot be told: {_readings(names)}; "
                f"pass layout, such as layout={_example(len(shape))!r}"
            )
        channels = shape[names.index("c")]
        grid = grid_of(value) if "n" in names and "m" not in names else None
        if grid is None:
            return cls(" ".join(names), channels)
        return cls(" ".join(names), channels, grid.before, grid.after, grid.sizes)

    @property
    def axis(self) -> int:
        """The index of the channel axis."""
        return self.axes.split().index("c")

    @property
    def tokens(self) -> bool:
        """Whether space is one axis of tokens."""
        return "n" in self.axes and "m" not in self.axes

    def converts(self, pattern: str) -> bool:
        """Return whether a mechanism of these axes takes another tensor than one of this layout."""
        plain = not self.tokens and self._order() == [*range(len(self.axes.split()))]
        return not plain or is_flat(pattern)

    def to_mechanism(
        self,
        x: Tensor,
        pattern: str,
        grid: Sequence[int | Tensor] | None = None,
        *,
        must_fit: bool = True,
    ) -> Tensor:
        """Convert ``x`` to the axes of a mechanism's input, without the class tokens.

        Args:
            x: A tensor of this layout.
            pattern: The axes of the mechanism's input.
            grid: The grid of the tokens; without one they are an axis of their own.
            must_fit: Whether tokens that do not fill the grid are an error, and not taken without.

        Raises:
            ValueError: the tokens do not fill the grid.
        """
        z = x.permute(self._order())  # b c *
        if self.prefix or self.suffix:
            z = z[:, :, self.prefix : -self.suffix or None]
        if is_flat(pattern):
            return z.flatten(2).transpose(1, 2)
        if not self.tokens:
            return z
        rank = len(pattern.split())
        return _arranged(z, () if grid is None else tuple(grid), rank, must_fit)

    def from_mechanism(self, z: Tensor, x: Tensor, pattern: str) -> Tensor:
        """Convert the mechanism's output for ``x`` back to the axes of ``x``."""
        order = self._order()
        if is_flat(pattern):
            z = z.transpose(1, 2)
            if not self.tokens:
                z = z.unflatten(2, [x.shape[i] for i in order[2:]])
        elif self.tokens:
            z = z.flatten(2)
        if self.prefix or self.suffix:
            old = x.permute(order)
            last = [old[:, :, -self.suffix :]] if self.suffix else []
            z = torch.cat([old[:, :, : self.prefix], z, *last], 2)
        return z.permute([order.index(i) for i in range(len(order))])

    def _order(self) -> list[int]:
        """Return the axes as a mechanism takes them: batch, channels, space."""
        names = self.axes.split()
        space = sorted((n for n in names if n not in "bc"), key=ORDER.index)
        return [names.index(name) for name in ("b", "c", *space)]

    def __str__(self) -> str:
        parts = [str(self.prefix)] * bool(self.prefix)
        parts += [" x ".join(map(str, self.grid))] * bool(self.grid)
        parts += [str(self.suffix)] * bool(self.suffix)
        return f"{self.axes} (n = {' + '.join(parts)})" if parts else self.axes


@leaf
def _arranged(z: Tensor, grid: tuple[int | Tensor, ...], rank: int, must_fit: bool) -> Tensor:
    """Split the tokens ``b c n`` into the rows and columns of a grid, if they fill it."""
    # While torch.jit.trace runs, sizes are tensors, whose values the graph must not fix.
    if grid and (torch.jit.is_tracing() or z.shape[2] == math.prod(grid)):
        return z.unflatten(2, grid)
    if grid and must_fit:
        shape = " x ".join(map(str, grid))
        raise ValueError(f"{z.shape[2]} tokens do not fill the grid of {shape}")
    return z.unsqueeze(3) if rank == 4 else z


def is_flat(pattern: str) -> bool:
    """Return whether a mechanism takes tokens, channels last, instead of a grid, channels first.

    >>> is_flat("query: b n d, key: b m e"), is_flat("b ... c"), is_flat("b c h w")
    (True, True, False)
    """
    first = next(iter(split(pattern).values()))
    return first.split()[1] in ("n", "...")


def grid_of(value: Value) -> Grid | None:
    """Return the grid of a tensor's tokens."""
    return next((axis.grid for axis in value.axes if axis.grid), None)


def names_of(value: Value) -> list[str]:
    """Return the names of a tensor's axes; ``?`` for an axis that is unknown."""
    names = [axis.name or "?" for axis in value.axes]
    left = [axis for axis in value.axes if not axis.name]
    if {"b", "c"} <= set(names):
        if len(names) == 3 and left:  # the steps of a sequence, or tokens in any order
            names[names.index("?")] = "l" if left[0].given else "n"
        elif len(left) == len(names) - 2 in GRIDS and all(axis.given for axis in left):
            space = iter(GRIDS[len(left)].split())  # those of an image, as it came in
            names = [next(space) if name == "?" else name for name in names]
    if len(names) == 4 and {"b", "c", "n"} <= set(names):  # tokens in groups, such as windows
        single = (i for i, name in enumerate(names) if name == "?" and value.shape[i] == 1)
        several = (i for i, name in enumerate(names) if name == "n" and names.count("n") > 1)
        for i in [*single, *several][:1]:
            names[i] = "m"
    if len(names) == 3:  # the rows or the columns alone
        names = ["l" if name in SPACE else name for name in names]
    return names


def valid(names: Sequence[str]) -> bool:
    """Return whether the names are those of a layout: batch, channels and space, each once."""
    space = sorted(set(names) - {"b", "c"}, key=lambda name: (ORDER + name).index(name))
    wanted = (GRIDS.get(len(names) - 2, "").split(), ["n"], ["n", "m"])
    return len(set(names)) == len(names) and {"b", "c"} <= set(names) and space in wanted


def _readings(names: Sequence[str]) -> str:
    """Say what is known of the axes, and which readings remain."""
    said = f"they seem to be ({' '.join(names)})"
    if names.count("?") == 2 and len(names) == 3:
        left = [i for i, name in enumerate(names) if name == "?"]
        lacking = [name for name in "bc" if name not in names]
        options = [("c", "n"), ("n", "c")] if lacking == ["c"] else [("b", "n"), ("n", "b")]
        readings = []
        for pair in options:
            reading = list(names)
            reading[left[0]], reading[left[1]] = pair
            readings.append(f"({' '.join(reading)})")
        return f"{said}, either {' or '.join(readings)}"
    return said


def _example(rank: int) -> str:
    return {3: "b n c", 4: "b h w c", 5: "b t h w c"}[rank]
