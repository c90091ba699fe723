"""Layouts of tensors in a model, and their conversion to the axes of a mechanism."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.shapes import GRIDS, split
from .dry_run import DryRun, Value


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor in a network.

    Attributes:
        axes: Their names; ``n`` is an axis of tokens.
        channels: The size of ``c``.
        prefix: Number of class tokens, which precede the others.
        grid: The grid of the other tokens; empty if there are none or it is unknown.
    """

    axes: str
    channels: int
    prefix: int = 0
    grid: tuple[int, ...] = ()

    @classmethod
    def of(cls, value: Value, run: DryRun) -> Layout:
        """Infer a layout from the dry run.

        Raises:
            ValueError: the tensor has no channels or no space, or is not floating point.
        """
        if not value.dtype.is_floating_point:
            raise ValueError(f"its output is {value.dtype}, not floating point")
        if not 3 <= len(value.shape) <= 5:
            raise ValueError(f"its output {value.shape} has no axes of batch, channels and space")
        if value.axis is None:
            raise ValueError(f"the channel axis of its output {value.shape} is unknown")
        channels = value.shape[value.axis]
        if len(value.shape) == 3:
            prefix, grid = _arrange(value.space[0], run)
            if value.axis == 2:
                return cls("b n c", channels, prefix, grid)
            if value.space[0] in run.grids and not prefix:
                return cls("b c n", channels, 0, grid)
        names = ["b", *GRIDS[len(value.shape) - 2].split()]
        names.insert(value.axis, "c")
        return cls(" ".join(names), channels)

    @property
    def axis(self) -> int:
        """The index of the channel axis."""
        return self.axes.split().index("c")

    @property
    def tokens(self) -> bool:
        """Whether space is one axis of tokens."""
        return "n" in self.axes

    def to_mechanism(self, x: Tensor, pattern: str) -> Tensor:
        """Convert ``x`` to the axes of a mechanism's input, without the class tokens."""
        z = x[:, self.prefix :] if self.prefix else x
        z = z.movedim(self.axis, 1)  # b c *
        if is_flat(pattern):
            return z.flatten(2).mT
        return z.unflatten(2, self.grid_of(z)) if self.tokens else z

    def from_mechanism(self, z: Tensor, x: Tensor, pattern: str) -> Tensor:
        """Convert the mechanism's output for ``x`` back to the axes of ``x``."""
        if not is_flat(pattern):
            z = z.flatten(2) if self.tokens else z
        else:
            z = z.mT if self.tokens else z.mT.unflatten(2, x.movedim(self.axis, 1).shape[2:])
        z = z.movedim(1, self.axis)
        return torch.cat((x[:, : self.prefix], z), 1) if self.prefix else z

    def grid_of(self, z: Tensor) -> tuple[int, ...]:
        """Return the grid of the tokens ``b c n``: that of the dry run, or one in its proportions.

        Raises:
            ValueError: there is none.
        """
        if isinstance(z, torch.fx.Proxy) or z.shape[2] == math.prod(self.grid):
            return self.grid
        tokens = z.shape[2]
        if len(self.grid) != 2:
            raise ValueError(f"its {tokens} tokens fill no grid")
        rows = round(math.sqrt(tokens * self.grid[0] / self.grid[1]))
        if rows * (tokens // rows) != tokens:
            shape = " x ".join(map(str, self.grid))
            raise ValueError(f"its {tokens} tokens fill no grid in proportion to {shape}")
        return rows, tokens // rows

    def __str__(self) -> str:
        before = f"{self.prefix} + " if self.prefix else ""
        grid = " x ".join(map(str, self.grid))
        return f"{self.axes} (n = {before}{grid})" if self.grid else self.axes


def is_flat(pattern: str) -> bool:
    """Return whether a mechanism takes tokens, channels last, instead of a grid, channels first.

    >>> is_flat("query: b n d, key: b m e"), is_flat("b ... c"), is_flat("b c h w")
    (True, True, False)
    """
    first = next(iter(split(pattern).values()))
    return first.split()[1] in ("n", "...")


def _arrange(tokens: int, run: DryRun) -> tuple[int, tuple[int, ...]]:
    """Return the number of class tokens and the grid: those of the dry run, or a square."""
    if tokens in run.grids:
        grid, prefix = run.grids[tokens]
        if math.prod(grid) + prefix == tokens:
            return prefix, grid
    side = math.isqrt(tokens)
    return (0, (side, side)) if side * side == tokens else (0, ())
