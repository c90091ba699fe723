"""The dry run: records one pass through a model, so that any class of model can be handled.

For every tensor a `Value` records from what it was computed and which of its axes is the channel
axis; for every run of a module there is a `Call`. The presets and the layouts are derived from
these two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..core.watching import uncompiled, undisturbed

# What a model takes: a tensor, a tuple of arguments or a dictionary of keyword arguments.
Example = Tensor | tuple[object, ...] | Mapping[str, object] | None

CONVOLUTIONS = frozenset(f"conv{way}{d}d" for way in ("", "_transpose") for d in (1, 2, 3))
POOLS = frozenset(
    f"{size}{pool}_pool{d}d"
    for size in ("", "adaptive_")
    for pool in ("avg", "max")
    for d in (1, 2, 3)
)
FIRST_NORMS = frozenset(("batch_norm", "group_norm", "instance_norm"))
LAST_NORMS = frozenset(("layer_norm", "rms_norm"))
WEIGHTED = CONVOLUTIONS | {"linear", "multi_head_attention_forward"}

CHANNELS_FIRST = CONVOLUTIONS | POOLS | FIRST_NORMS | {"interpolate"}
CHANNELS_LAST = LAST_NORMS | {"linear", "multi_head_attention_forward"}
LAYERS = WEIGHTED | FIRST_NORMS | LAST_NORMS
MIXING = WEIGHTED | {"matmul", "__matmul__", "bmm", "einsum", "scaled_dot_product_attention"}
TURNS = frozenset(("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t"))
SIZES = (224, 32, 28, 64, 128, 256, 384, 512)


@dataclass(eq=False)
class Value:
    """One tensor of the dry run.

    Attributes:
        index: Its number, in order of computation.
        shape: Its sizes.
        dtype: Its type.
        device: Its device.
        strides: Its strides in memory.
        op: The function that returned it.
        inputs: The arguments of that function that depend on the model's input.
        call: The run of a module in which it was computed.
        axis: Its channel axis, if known.
        returned_by: The runs of modules that returned it, innermost first.
    """

    index: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    strides: tuple[int, ...]
    op: str = ""
    inputs: tuple[Value, ...] = ()
    call: Call | None = None
    axis: int | None = None
    returned_by: list[Call] = field(default_factory=list)

    @classmethod
    def like(cls, x: Tensor, index: int, **facts: Any) -> Value:
        """Record the properties of a tensor."""
        return cls(index, tuple(x.shape), x.dtype, x.device, x.stride(), **facts)

    @property
    def space(self) -> tuple[int, ...]:
        """The sizes of all axes except batch and channels."""
        return tuple(n for i, n in enumerate(self.shape) if i not in (0, self.axis))

    @property
    def size(self) -> tuple[int | None, tuple[int, ...]]:
        """The number of channels, if known, and the sizes of space."""
        return None if self.axis is None else self.shape[self.axis], self.space


@dataclass(eq=False)
class Call:
    """One run of one module.

    Attributes:
        name: The module's name.
        module: The module.
        parent: The run that called it.
        start: Number of values that were computed before it.
        given: The tensors among its arguments.
        output: The first tensor that it returned.
        layer: Whether its own forward normalizes, convolves or multiplies by a weight.
    """

    name: str
    module: nn.Module
    parent: Call | None
    start: int
    given: tuple[Value, ...] = ()
    output: Value | None = None
    layer: bool = False

    def within(self) -> Iterator[Call]:
        """Yield the run itself, then the runs around it."""
        call: Call | None = self
        while call is not None:
            yield call
            call = call.parent


class DryRun(TorchFunctionMode):
    """The record of one pass through a model.

    Args:
        model: The model; it is not changed, nor are its training modes.
        example: Its arguments.

    Attributes:
        calls: The runs of modules, in order.
        values: The computed tensors, in order.
        grids: By number of tokens: the grid that was flattened into them, and the number of class
            tokens that precede it.
    """

    def __init__(
        self, model: nn.Module, example: tuple[object, ...] | Mapping[str, object]
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self.grids: dict[int, tuple[tuple[int, ...], int]] = {}
        self._current: Call | None = None
        self._known = WeakTensorKeyDictionary()
        args, kwargs = ((), example) if isinstance(example, Mapping) else (example, {})
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                self._learn(x, Value.like(x, -1))
        with _watched(model, self._enter, self._leave), self:
            model(*args, **kwargs)

    def of(self, name: str) -> list[Call]:
        """Return the runs of one module."""
        return [call for call in self.calls if call.name == name]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        inputs = tuple(self._known[x] for x in given if x in self._known)
        result = func(*args, **(kwargs or {}))
        op = getattr(func, "__name__", "")
        if inputs:
            for x in tree_leaves(result):
                if isinstance(x, Tensor):
                    self._learn(x, self._derive(op, x, inputs, args))
            if self._current is not None and op in LAYERS:
                self._current.layer = True
        return result

    def _derive(self, op: str, x: Tensor, inputs: tuple[Value, ...], args: Any) -> Value:
        value = Value.like(x, len(self.values), op=op, inputs=inputs, call=self._current)
        source = next((v for v in inputs if v.axis is not None), inputs[0])
        if op in CHANNELS_FIRST:
            value.axis = 1
            inputs[0].axis = 1 if inputs[0].axis is None else inputs[0].axis
        elif op in CHANNELS_LAST:  # a known axis prevails: the layer may act along space (mixers)
            value.axis = len(value.shape) - 1 if source.axis is None else source.axis
        else:
            value.axis = _follow(op, source, value)
        if value.axis is not None and source.axis is not None and len(value.shape) == 3:
            self._count_tokens(op, source, value, args)
        return value

    def _count_tokens(self, op: str, source: Value, value: Value, args: Any) -> None:
        tokens = value.space[0]
        if len(source.shape) > 3 and tokens == math.prod(source.space):
            self.grids[tokens] = source.space, 0
        elif op in ("cat", "concat", "concatenate") and source.space[0] in self.grids:
            grid, prefix = self.grids[source.space[0]]
            index = next((i for i, x in enumerate(args[0]) if self._known.get(x) is source), 0)
            self.grids[tokens] = grid, prefix + sum(x.shape[1] for x in args[0][:index])

    def _learn(self, x: Tensor, value: Value) -> None:
        self._known[x] = value
        self.values.append(value)

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        values = tuple(self._known[x] for x in given if x in self._known)
        self._current = Call(name, module, self._current, len(self.values), values)
        self.calls.append(self._current)

    def _leave(self, output: Any) -> None:
        call, x = self._current, first_tensor(output)
        if call is None:
            return
        if x is not None and x not in self._known and call.given:
            # It comes from a function that __torch_function__ does not see.
            self._learn(x, self._derive("", x, call.given, ()))
        if x is not None and x in self._known:
            call.output = value = self._known[x]
            value.returned_by.append(call)
        self._current = call.parent


def first_tensor(output: Any) -> Tensor | None:
    """Return the output itself, or the first tensor of a tuple or list."""
    if isinstance(output, (tuple, list)):
        return next((x for x in output if isinstance(x, Tensor)), None)
    return output if isinstance(output, Tensor) else None


def _follow(op: str, source: Value, value: Value) -> int | None:
    """Return the axis of ``value`` that is the channel axis of ``source``, if that is clear."""
    axis, old, new = source.axis, source.shape, value.shape
    if axis is None or op in MIXING:
        return None
    if op in TURNS:
        moved = (old[axis], source.strides[axis])
        found = [i for i, pair in enumerate(zip(new, value.strides, strict=True)) if pair == moved]
        return found[0] if len(found) == 1 else None
    if new[: axis + 1] == old[: axis + 1]:
        return axis
    rest = len(old) - axis
    if new[-rest:] == old[-rest:]:
        return len(new) - rest
    found = [i for i, size in enumerate(new) if size == old[axis] and i]
    return found[0] if len(found) == 1 else None


@contextmanager
def _watched(
    model: nn.Module,
    enter: Callable[[str, nn.Module, Any, Any], None],
    leave: Callable[[Any], None],
) -> Iterator[None]:
    """Call ``enter`` and ``leave`` around each module in one run, without changing the model."""
    handles = []
    try:
        for name, module in model.named_modules():
            before = lambda m, args, kwargs, name=name: enter(name, m, args, kwargs)  # noqa: E731
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(lambda m, args, output: leave(output)))
        with undisturbed(model), uncompiled():
            yield
    finally:
        for handle in handles:
            handle.remove()


def dry_run(model: nn.Module, example_input: Example = None) -> DryRun:
    """Record one pass through a model.

    Args:
        model: Any module.
        example_input: A tensor, a tuple of arguments or a dictionary of keyword arguments. Without
            one, random images are tried, of the size in the model's attributes (timm's ``img_size``
            and ``input_size``, torchvision's ``image_size``) or of usual sizes.

    Raises:
        ValueError: no input was found that the model accepts.
    """
    if example_input is not None:
        whole = isinstance(example_input, (tuple, Mapping))
        return DryRun(model, example_input if whole else (example_input,))
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    who = type(model).__name__
    if convolution is None or weight is None:
        raise ValueError(f"{who}: its input cannot be inferred; pass example_input")
    problem = None
    for height, width in dict.fromkeys([*_named_sizes(model), *((n, n) for n in SIZES)]):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(2, convolution.in_channels, height, width, generator=generator)
        try:
            return DryRun(model, (x.to(weight.device, weight.dtype),))
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as e:
            problem = problem or e
    raise ValueError(f"{who}: no usual size of image fits ({problem}); pass example_input")


def _named_sizes(model: nn.Module) -> Iterator[tuple[int, int]]:
    for module in model.modules():
        for name in ("img_size", "image_size"):
            size = getattr(module, name, None)
            if isinstance(size, int):
                yield size, size
            elif isinstance(size, (tuple, list)) and len(size) == 2:
                yield int(size[0]), int(size[1])
    for name in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(model, name, None)
        if isinstance(cfg, Mapping) and (size := cfg.get("input_size")):
            yield int(size[-2]), int(size[-1])
