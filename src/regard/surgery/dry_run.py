"""The dry run: records one pass through a model, so that any class of model can be handled.

For every tensor a `Value` records from what it was computed and what its axes are; for every run of
a module there is a `Call`. The presets and the layouts are derived from these two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from ..core.watching import HOST, path_of, uncompiled, undisturbed
from .following import (
    FIRST_NORMS,
    LAST_NORMS,
    MIXING,
    WEIGHTED,
    axes_of,
    takes_class_tokens,
    unknown,
)
from .outputs import tensors
from .record import Axis, Call, Value
from .wrapper import innermost

# What a model takes: a tensor, a tuple of arguments or a dictionary of keyword arguments.
Example = Tensor | tuple[object, ...] | Mapping[str, object] | None

LAYERS = WEIGHTED | FIRST_NORMS | LAST_NORMS
LINEAR = frozenset(("linear",))  # it mixes channels, not tokens
# Usual sizes of inputs, by the number of axes of space.
SIZES = {2: (224, 32, 28, 64, 128, 256, 384, 512), 3: (32, 64, 96, 16), 1: (256, 64, 1024)}


class DryRun(TorchFunctionMode):
    """The record of one pass through a model.

    Args:
        model: The model; it is not changed, nor are its training modes.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        beside: Makes another mode, given the dry run, that sees the functions first.
        grad: Whether the graph of gradients is kept.

    Attributes:
        calls: The runs of modules, in order.
        values: The computed tensors, in order.
        result: What the model returned.
    """

    def __init__(
        self,
        model: nn.Module,
        args: tuple[object, ...],
        kwargs: Mapping[str, object] | None = None,
        *,
        beside: Callable[[DryRun], TorchFunctionMode] | None = None,
        grad: bool = False,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.values: list[Value] = []
        self._current: Call | None = None
        self._known = WeakTensorKeyDictionary()
        kwargs = kwargs or {}
        self._model, self._example = model, (args, kwargs)
        for x in tree_leaves((args, kwargs)):
            if isinstance(x, Tensor):
                first = Axis("b", assumed=True, given=True)
                axes = (first, *(Axis(given=True) for _ in x.shape[1:]))[: x.dim()]
                self._learn(x, Value.like(x, -1, axes))
        other = beside(self) if beside else nullcontext()
        with _watched(model, self._enter, self._leave, grad=grad), self, other:
            self.result = model(*args, **kwargs)
        # References to tensors, even weak ones, would keep others from exchanging their contents.
        self._known = WeakTensorKeyDictionary()

    @property
    def current(self) -> Call | None:
        """The run of a module that goes on."""
        return self._current

    def value_of(self, x: Tensor) -> Value | None:
        """Return what is known of a tensor of the run that goes on."""
        return self._known.get(x)

    def of(self, name: str) -> list[Call]:
        """Return the runs of one module."""
        return [call for call in self.calls if call.name == name]

    def is_read(self, value: Value, after: Call) -> bool:
        """Return whether anything reads a tensor after the end of a run that returned it.

        Reading its class tokens alone does not count, because attention does not change them.
        """
        outputs = set(self.calls[0].outputs.values())
        todo = [v for v in self._readers.get(value, ()) if v.index >= after.stop]
        if value in outputs:
            return True
        tokens = next((axis for axis in value.axes if axis.class_tokens), None)
        if tokens is None:
            return bool(todo)
        seen: set[Value] = set()
        while todo:
            v = todo.pop()
            if v in seen or v.class_only:
                continue
            seen.add(v)
            # Once other tokens are mixed into the class tokens, all are read.
            if v in outputs or v.op in MIXING - LINEAR or tokens not in v.axes:
                return True
            todo += self._readers.get(v, ())
        return False

    @cached_property
    def _readers(self) -> dict[Value, list[Value]]:
        """By tensor: those that were computed from it."""
        found: dict[Value, list[Value]] = {}
        for value in self.values:
            for given in value.inputs:
                found.setdefault(given, []).append(value)
        return found

    @cached_property
    def separate(self) -> bool:
        """Whether the outputs for one sample do not depend on the others along axis 0.

        It takes another run, with other samples after the first.
        """
        args, kwargs = tree_map(_with_other_samples, self._example)
        with undisturbed(self._model), uncompiled():
            other = dict(tensors(self._model(*args, **kwargs)))
        for path, x in tensors(self.result):
            value, y = self.calls[0].outputs.get(path), other.get(path)
            names = [axis.name for axis in value.axes] if value else []
            if y is None or y.shape != x.shape or "b" not in names or not x.is_floating_point():
                continue
            if x.is_meta:  # there are no values to compare
                continue
            pair = [z.select(names.index("b"), 0) for z in (x, y)]
            if (pair[0] - pair[1]).abs().max() > 1e-2 * pair[0].abs().max():
                return False
        return True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        inputs = tuple(self._known[x] for x in given if x in self._known)
        op = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if inputs:
            found = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
            if found:
                axes = axes_of(func, op, args, kwargs, self._known, found)
                only = takes_class_tokens(func, op, args, kwargs, self._known)
                for x, one in zip(found, axes, strict=True):
                    self._compute(op, x, inputs, one, only)
            if self._current is not None and op in LAYERS:
                self._current.layer = True
        return result

    def _compute(
        self,
        op: str,
        x: Tensor,
        inputs: tuple[Value, ...],
        axes: tuple[Axis, ...],
        class_only: bool = False,
    ) -> None:
        facts = {"op": op, "inputs": inputs, "call": self._current, "class_only": class_only}
        self._learn(x, Value.like(x, len(self.values), axes, **facts))

    def _learn(self, x: Tensor, value: Value) -> None:
        self._known[x] = value
        self.values.append(value)

    def _enter(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        values = tuple(self._known[x] for x in given if x in self._known)
        self._current = Call(name, module, self._current, len(self.values), given=values)
        # A norm of a class of its own, which may be written with products and sums alone.
        self._current.layer = not module._modules and "norm" in type(module).__name__.lower()
        self.calls.append(self._current)

    def _leave(self, output: Any) -> None:
        call = self._current
        if call is None:
            return
        for path, x in tensors(output):
            if x not in self._known and call.given:
                # It comes from a function that __torch_function__ does not see.
                same = next((v for v in call.given if v.shape == x.shape), None)
                self._compute("", x, call.given, same.axes if same else unknown(x.shape))
            if x in self._known:
                call.outputs[path] = value = self._known[x]
                value.returned_by.append(call)
        call.stop = len(self.values)
        self._current = call.parent


def _with_other_samples(x: Any) -> Any:
    """Return a tensor with the same first sample, and others after it."""
    if not isinstance(x, Tensor) or not x.dim() or len(x) < 2:
        return x
    first = x[:1].expand(len(x) - 1, *x.shape[1:])
    if not x.is_floating_point():
        return torch.cat((x[:1], first))
    generator = torch.Generator().manual_seed(0)  # planning leaves the random state alone
    noise = torch.rand(first.shape, generator=generator, device="cpu")
    return torch.cat((x[:1], first + noise.to(x.device, x.dtype)))


def _twice(x: Any) -> Any:
    """Return two samples in place of one, so that the axis of samples shows."""
    return torch.cat((x, x)) if isinstance(x, Tensor) and x.dim() and len(x) == 1 else x


@contextmanager
def _watched(
    model: nn.Module,
    enter: Callable[[str, nn.Module, Any, Any], None],
    leave: Callable[[Any], None],
    *,
    grad: bool,
) -> Iterator[None]:
    """Call ``enter`` and ``leave`` around each module in one run, without changing the model."""
    handles = []
    try:
        for name, module in model.named_modules():
            if name.rpartition(".")[2] == HOST:  # its wrapper counts as its run
                continue
            path, inner = path_of(name), innermost(module)
            before = lambda m, args, kwargs, path=path, inner=inner: enter(  # noqa: E731
                path, inner, args, kwargs
            )
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(lambda m, args, output: leave(output)))
        with undisturbed(model, grad=grad), uncompiled():
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
            and ``input_size``, torchvision's ``image_size``) or of usual sizes; volumes or
            sequences if the first convolution reads these.

    Raises:
        ValueError: no input was found that the model accepts.
    """
    if example_input is not None:
        keywords = isinstance(example_input, Mapping)
        args = example_input if isinstance(example_input, tuple) else (example_input,)
        example = ((), example_input) if keywords else (args, {})
        try:
            return DryRun(model, *tree_map(_twice, example))
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError):
            return DryRun(model, *example)
    convolution = _first_convolution(model)
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    who = type(model).__name__
    if convolution is None or weight is None:
        raise ValueError(f"{who}: its input cannot be inferred; pass example_input")
    problem = None
    dims = len(convolution.kernel_size)
    sizes = dict.fromkeys([*_named_sizes(model, dims), *((n,) * dims for n in SIZES[dims])])
    # The first convolution may read another tensor than the image, as after space to depth.
    for channels, space in product(dict.fromkeys((convolution.in_channels, 3)), sizes):
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(2, channels, *space, generator=generator)
        try:
            return DryRun(model, (x.to(weight.device, weight.dtype),))
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as e:
            problem = problem or e
    raise ValueError(f"{who}: no usual size of image fits ({problem}); pass example_input")


def _first_convolution(model: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """Return the first one over images or volumes; of a model without any, over sequences."""
    for kinds in ((nn.Conv2d, nn.Conv3d), (nn.Conv1d,)):
        for module in model.modules():
            if isinstance(module, kinds):
                return module
    return None


def _named_sizes(model: nn.Module, dims: int) -> Iterator[tuple[int, ...]]:
    for module in model.modules():
        for name in ("img_size", "image_size"):
            size = getattr(module, name, None)
            if isinstance(size, int):
                yield (size,) * dims
            elif isinstance(size, (tuple, list)) and len(size) == dims:
                yield tuple(map(int, size))
    for name in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(model, name, None)
        if dims == 2 and isinstance(cfg, Mapping) and (size := cfg.get("input_size")):
            yield int(size[-2]), int(size[-1])
