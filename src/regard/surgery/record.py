"""What a dry run records: tensors with their axes, and runs of modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .outputs import Path

SPACE = frozenset("thwl")
TOKENS = SPACE | {"n"}


class Factor(NamedTuple):
    """A digit of the positions along an axis: ``position // stride % size``.

    Attributes:
        axis: The axis.
        size: The number of values of the digit.
        stride: The distance of positions whose digits differ by one.
    """

    axis: Axis
    size: int
    stride: int = 1


@dataclass(eq=False, repr=False)
class Axis:
    """One axis, in all tensors in which it means the same.

    Attributes:
        named: ``b``, ``c``, ``n`` or one of space (``t h w``, ``l``); empty if it is unknown.
        assumed: Whether the name is an assumption, which a layer that reads it may correct.
        given: Whether it is an axis of the model's input.
        size: Its size.
        factors: For an axis that others were reshaped into: what it consists of, outermost first.
        class_tokens: For tokens in the order of a grid with class tokens: that grid.
        class_only: Whether it has class tokens alone.
        piece_of: For a contiguous part: the axis, its first position and the one after its last.
        rolled_from: For one whose positions were rolled: the axis, and by how many.
    """

    named: str = ""
    assumed: bool = False
    given: bool = False
    size: int = 0
    factors: tuple[Factor, ...] = ()
    class_tokens: Grid | None = None
    class_only: bool = False
    piece_of: tuple[Axis, int, int] | None = None
    rolled_from: tuple[Axis, int] | None = None

    def __repr__(self) -> str:
        return f"<Axis {self.name or '?'} = {self.size}>"

    @property
    def name(self) -> str:
        """Its name, which depends on what it consists of."""
        if self.named or not self.factors:
            return self.named
        names = {factor.axis.name for factor in self.factors}
        if "b" in names:
            return "b"
        return "n" if names <= TOKENS else ""

    @property
    def merged(self) -> bool:
        """Whether it is more than one axis, as the windows of all images are."""
        return len(self.factors) > 1

    @property
    def grid(self) -> Grid | None:
        """For tokens in the order of a grid: that grid."""
        names = "".join(factor.axis.name for factor in self.factors)
        if names in ("hw", "thw"):
            axes, sizes, strides = zip(*self.factors, strict=True)
            return Grid(axes, sizes, strides)
        return self.class_tokens

    def read_as(self, name: str) -> None:
        """Take the name that a layer reads it as, unless it has one already."""
        if not self.name or self.assumed:
            self.named, self.assumed = name, False

    def successor(self) -> Axis:
        """Return a new axis of the same name, whose positions are others."""
        return Axis(self.name, given=self.given)

    def rolled(self, by: int) -> Axis:
        """Return the axis with its positions rolled; rolled back, it is the old one."""
        axis, already = self.rolled_from or (self, 0)
        by = (by + already) % axis.size
        name = axis.factors[0].axis.name if len(axis.factors) == 1 else axis.name
        return Axis(name, given=axis.given, rolled_from=(axis, by)) if by else axis


@dataclass(frozen=True)
class Grid:
    """The grid whose rows, one after the other, are the tokens of an axis.

    Attributes:
        axes: The axes of the grid.
        sizes: Their sizes; of a window, they are less than those of the axes.
        strides: The steps along the axes from one token to the next.
        before: Number of class tokens that precede the others.
        after: Number of class tokens that follow them.
    """

    axes: tuple[Axis, ...]
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    before: int = 0
    after: int = 0


@dataclass(eq=False, repr=False)
class Value:
    """One tensor of the dry run.

    Attributes:
        index: Its number, in order of computation.
        shape: Its sizes.
        dtype: Its type.
        device: Its device.
        axes: Its axes.
        op: The function that returned it.
        inputs: The arguments of that function that depend on the model's input.
        call: The run of a module in which it was computed.
        class_only: Whether only class tokens were taken from its input.
        returned_by: The runs of modules that returned it, innermost first.
    """

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    axes: tuple[Axis, ...]
    op: str = ""
    inputs: tuple[Value, ...] = ()
    call: Call | None = None
    class_only: bool = False
    returned_by: list[Call] = field(default_factory=list)

    def __repr__(self) -> str:
        names = " ".join(axis.name or "?" for axis in self.axes)
        return f"<Value {self.index} of {self.op}: {self.shape}, {names}>"

    @classmethod
    def like(cls, x: Tensor, index: int, axes: tuple[Axis, ...], **facts: Any) -> Value:
        """Record the properties of a tensor."""
        for axis, size in zip(axes, x.shape, strict=True):
            axis.size = size
        return cls(index, tuple(x.shape), x.dtype, x.device, axes, **facts)

    @property
    def size(self) -> tuple[int, ...]:
        """The sizes of all axes except the batch's."""
        return tuple(n for n, a in zip(self.shape, self.axes, strict=True) if a.name != "b")


@dataclass(eq=False, repr=False)
class Call:
    """One run of one module.

    Attributes:
        name: The module's name.
        module: The module; not what wraps it.
        parent: The run that called it.
        start: Number of values that were computed before it.
        stop: Number of values that were computed when it ended.
        given: The tensors among its arguments.
        outputs: The tensors that it returned, each with its path in the output.
        layer: Whether its own forward normalizes, convolves or multiplies by a weight.
    """

    name: str
    module: nn.Module
    parent: Call | None
    start: int
    stop: int = 0
    given: tuple[Value, ...] = ()
    outputs: dict[Path, Value] = field(default_factory=dict)
    layer: bool = False

    def __repr__(self) -> str:
        return f"<Call of {self.name!r}>"

    @property
    def output(self) -> Value | None:
        """The first tensor that it returned."""
        return next(iter(self.outputs.values()), None)

    def within(self) -> Iterator[Call]:
        """Yield the run itself, then the runs around it."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent
