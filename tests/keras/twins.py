"""Pairs of a mechanism and its twin, with the same options, weights and inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import Tensor

import regard
import regard.keras as twins
from cases import Case, cases, draw
from regard import catalog
from regard.core.attention import SequenceAttention
from regard.core.shapes import expand

# Options that a twin reads from its input, or leaves to Keras.
INFERRED = ("channels", "in_channels", "embed_dim", "kdim", "vdim", "dims")
INFERRED += ("device", "dtype")
GRID = {"l", "t", "h", "w", "1"}


@cache
def stems() -> dict[str, str]:
    """Map the key of each mechanism that has a twin to the name of its main class."""
    return {stem: catalog.entries()[stem].name for stem in catalog.keras_classes().values()}


def twin(name: str, options: Mapping[str, Any], /, **more: Any) -> Any:
    """Create the twin of a mechanism of this class with these options."""
    cls = getattr(twins, name)
    known = {n: v for n, v in options.items() if n not in INFERRED}
    return cls(**known, **more)


def options(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the options that a mechanism and its twin share."""
    other = (*INFERRED, "data_format", "kwargs")
    return {n: p for n, p in inspect.signature(cls).parameters.items() if n not in other}


@contextmanager
def recording(stem: str) -> Iterator[dict[int, dict[str, Any]]]:
    """Record the arguments of each instance of the classes of a file, by the id of the instance."""
    arguments: dict[int, dict[str, Any]] = {}

    def recorded(init: Callable[..., None]) -> Callable[..., None]:
        @wraps(init)
        def record(self: Any, *args: Any, **kwargs: Any) -> None:
            bound = inspect.signature(init).bind(self, *args, **kwargs).arguments
            arguments[id(self)] = dict(list(bound.items())[1:])
            init(self, *args, **kwargs)

        return record

    with pytest.MonkeyPatch.context() as patch:
        for name in catalog.entries()[stem].classes:
            cls = getattr(regard, name)
            patch.setattr(cls, "__init__", recorded(cls.__init__))
        yield arguments


def to_torch(x: Any) -> Any:
    """Convert a tensor of any backend, or several, to torch."""
    return keras.tree.map_structure(
        lambda t: torch.tensor(np.asarray(keras.ops.convert_to_numpy(t))), x
    )


def channels_last(x: Tensor, axes: str) -> Tensor:
    """Move the channels after the axes of space and time, if there are any.

    >>> channels_last(torch.zeros(2, 5, 3, 4), "b c h w").shape
    torch.Size([2, 3, 4, 5])
    >>> channels_last(torch.zeros(2, 5, 3), "b n m").shape
    torch.Size([2, 5, 3])
    >>> channels_last(torch.zeros(2, 1, 3, 4), "b 1 h w").shape
    torch.Size([2, 3, 4, 1])
    """
    names = expand(axes, x.dim()).split()
    first = next((i for i in range(1, len(names)) if set(names[i:]) <= GRID), len(names))
    first += names[1] == "1"  # the axis 1 takes the place of the channels
    return x.movedim(first - 1, -1) if 1 < first < len(names) else x


@dataclass
class Pair:
    """A mechanism and its twin, with the same weights."""

    module: Any
    layer: Any
    inputs: tuple[Tensor, ...]
    masks: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, module: Any, options: Mapping[str, Any], inputs: Any, **more: Any) -> Pair:
        """Create the twin of a module with these options, and copy the weights to it."""
        more.setdefault("dtype", "float64")
        if not isinstance(module, SequenceAttention):
            more.setdefault("data_format", "channels_last")
        layer = twin(type(module).__name__, options, **more)
        pair = cls(module, layer, tuple(inputs))
        layer(*pair.arrays)
        twins.transfer(module, layer)
        return pair

    @property
    def sequence(self) -> bool:
        return isinstance(self.module, SequenceAttention)

    @property
    def tokens(self) -> bool:
        """Whether the module, too, has channels last."""
        return self.sequence or self.layer.axes.input.endswith("c")

    def _last(self, x: Tensor) -> Tensor:
        return x if self.tokens or x.dim() < 3 else x.movedim(1, -1)

    @property
    def arrays(self) -> list[Any]:
        """The inputs as tensors of the backend, in the layout and precision of the layer."""
        inputs = self.inputs
        if getattr(self.layer, "data_format", "") == "channels_last":
            inputs = [self._last(x) for x in self.inputs]
        dtype = None if self.layer is None else self.layer.compute_dtype
        return [keras.ops.convert_to_tensor(x.detach().numpy(), dtype=dtype) for x in inputs]

    def expected(self, y: Any) -> Any:
        """Return the module's output in the layout of the layer's output."""
        if self.sequence or self.layer.data_format == "channels_first":
            return y
        return self._last(y) if isinstance(y, Tensor) else [self._last(t) for t in y]

    @property
    def mask_arrays(self) -> dict[str, Any]:
        """The masks as tensors of the backend."""
        return {n: keras.ops.convert_to_tensor(m.numpy()) for n, m in self.masks.items()}

    def call(self, **options: Any) -> Any:
        """Run the layer."""
        return self.layer(*self.arrays, **self.mask_arrays, **options)


@cache
def twin_cases() -> tuple[Case, ...]:
    """Return the cases of the laws whose mechanism has a twin."""
    return tuple(case for case in cases() if case.cls.__name__ in catalog.keras_classes())


def pair(case: Case, **more: Any) -> Pair:
    """Create the mechanism of a case and its twin, with random weights."""
    module = case.module()
    return Pair.of(module, case.options, draw(module), **more)


def gradient(layer: Any, inputs: list[Any], cotangents: list[Tensor], **options: Any) -> list[Any]:
    """Return the gradient of a weighted sum of outputs by each input, on any backend."""
    weights = [keras.ops.convert_to_tensor(c.numpy()) for c in cotangents]

    def total(*xs: Any) -> Any:
        outputs = keras.tree.flatten(layer(*xs, **options))
        return sum(keras.ops.sum(y * w) for y, w in zip(outputs, weights, strict=True))

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = total(*inputs)
        return tape.gradient(loss, inputs)
    if keras.backend.backend() == "jax":
        import jax

        return list(jax.grad(total, argnums=tuple(range(len(inputs))))(*inputs))
    leaves = [x.detach().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(total(*leaves), leaves))
