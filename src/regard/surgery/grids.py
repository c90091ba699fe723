"""The grid of tokens in each pass through a network: where it is read, and how it is noted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .dry_run import DryRun
from .outputs import Path, tensor_at
from .record import Grid, Value
from .wrapper import Wrapper


class Side(NamedTuple):
    """One side of a grid, as it is found in each pass.

    Attributes:
        axis: The axis of a tensor that it is read from; None if it is the same in each pass.
        number: The divisor of that axis's size, as where a token is a patch, rounding up, because
            networks pad or enlarge what patches do not fill; or the size itself.
    """

    axis: int | None
    number: int


class Source(NamedTuple):
    """Where a grid can be read in each pass.

    Attributes:
        module: The path of a module.
        output: Where its tensor is in what it returns.
        sides: How the sides of the grid follow from the sizes of that tensor.
    """

    module: str
    output: Path
    sides: tuple[Side, ...]


def source_of(run: DryRun, value: Value, grid: Grid, own: Collection[str]) -> Source | None:
    """Return where the grid of a tensor's tokens can be read, if any module returns its axes."""
    whole = [
        (axis, size, step)
        for axis, size, step in zip(grid.axes, grid.sizes, grid.strides, strict=True)
        if size * step == axis.size  # the others are sides of windows, the same in each pass
    ]
    for other in run.values[: value.index + 1]:
        read = {
            axis: Side(other.axes.index(axis), step)
            for axis, size, step in whole
            if axis in other.axes and other.shape[other.axes.index(axis)] == size * step
        }
        if len(read) < len(whole) or not read:
            continue
        sides = (
            read.get(axis, Side(None, size))
            for axis, size in zip(grid.axes, grid.sizes, strict=True)
        )
        for call in other.returned_by:
            if call.name and call.name not in own and len(run.of(call.name)) == 1:
                path = next(path for path, v in call.outputs.items() if v is other)
                return Source(call.name, path, tuple(sides))
    return None


def is_window(grid: Grid) -> bool:
    """Return whether a grid is that of windows, which is the same in each pass."""
    sides = zip(grid.axes, grid.sizes, grid.strides, strict=True)
    return all(size * step < axis.size for axis, size, step in sides)


class Sizes:
    """The grid of tokens in the pass through the network that runs.

    It does not belong to the network: a copy starts without it. But a copy of attention alone,
    which some programs put in its place, reads that of the network that it is in.
    """

    noted: Sequence[int | Tensor] | None = None
    _original: Sizes | None = None

    @property
    def grid(self) -> Sequence[int | Tensor] | None:
        """The sides of the grid, or None."""
        if self.noted is None and self._original is not None:
            return self._original.grid
        return self.noted

    def __deepcopy__(self, memo: dict[int, Any]) -> Sizes:
        new = memo[id(self)] = Sizes()
        new._original = self
        return new

    def __getstate__(self) -> None:
        return None


class Note(nn.Module):
    """Notes the grid that follows from the sizes of a tensor.

    torch.fx records it as a call, so that a traced network notes the grid too: for modules that the
    tracer did not look into.
    """

    _is_impure = True  # torch.fx would remove a call that returns nothing

    def __init__(self, sizes: Sizes, sides: Sequence[Side]) -> None:
        super().__init__()
        self.sizes = sizes
        self.sides = tuple(sides)
        self.__module__ = "torch.nn"  # torch.fx looks into all other modules

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.sizes._original = None  # the copy notes its own

    def forward(self, x: Tensor) -> None:
        """Note the grid."""
        self.sizes.noted = tuple(
            side.number if side.axis is None else -(-x.shape[side.axis] // side.number)
            for side in self.sides
        )


class Sized(Wrapper):
    """A module whose output tells the grid of later tokens, which is noted at each run.

    Args:
        host: The module.
        output: Where in its output the tensor is.
        note: Notes the grid.
    """

    _output: Path = ()

    def __init__(self, host: nn.Module, output: Path, note: Note) -> None:
        super().__init__(host)
        self._output = output
        self._modules["_note"] = note  # the host may be another module that notes a grid

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host's output."""
        y = self.host(*args, **kwargs)
        x = tensor_at(y, self._output) if self._output else y
        note: Note = self._modules["_note"]  # type: ignore[assignment]
        note.forward(x)
        if isinstance(x, torch.fx.Proxy):
            note(x)
        return y

    @property
    def sizes(self) -> Sizes:
        """Where the grid is noted."""
        return self._modules["_note"].sizes  # type: ignore[union-attr,return-value]

    def source(self, path: str) -> Source:
        """Return where the grid is read, given the path of the module."""
        note: Note = self._modules["_note"]  # type: ignore[assignment]
        return Source(path, self._output, note.sides)
