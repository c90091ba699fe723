"""Twins beside their mechanisms: built alike, with the same weights, fed the same inputs."""

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

# What a twin finds out by itself, or leaves to Keras.
INFERRED = ("channels", "in_channels", "embed_dim", "kdim", "vdim", "dims")
INFERRED += ("device", "dtype")
GRID = {"l", "t", "h", "w", "1"}


@cache
def stems() -> dict[str, str]:
    """The name of the class of each twin, by its stem."""
    return {stem: catalog.entries()[stem].name for stem in catalog.keras_classes().values()}


def twin(name: str, options: Mapping[str, Any], /, **more: Any) -> Any:
    """The twin that corresponds to a mechanism of this class with these options."""
    cls = getattr(twins, name)
    known = {n: v for n, v in options.items() if n not in INFERRED}
    return cls(**known, **more)


def options(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a mechanism or a twin may be told, besides what is inferred."""
    other = (*INFERRED, "data_format", "kwargs")
    return {n: p for n, p in inspect.signature(cls).parameters.items() if n not in other}


@contextmanager
def recording(stem: str) -> Iterator[dict[int, dict[str, Any]]]:
    """Note the arguments of what is made meanwhile of the classes of a file, by its identity."""
    told: dict[int, dict[str, Any]] = {}

    def noting(init: Callable[..., None]) -> Callable[..., None]:
        @wraps(init)
        def note(self: Any, *args: Any, **kwargs: Any) -> None:
            given = inspect.signature(init).bind(self, *args, **kwargs).arguments
            told[id(self)] = dict(list(given.items())[1:])
            init(self, *args, **kwargs)

        return note

    with pytest.MonkeyPatch.context() as patch:
        for name in catalog.entries()[stem].classes:
            cls = getattr(regard, name)
            patch.setattr(cls, "__init__", noting(cls.__init__))
        yield told


def numbers(x: Any) -> Any:
    """A tensor of any backend, or several, in torch."""
    return keras.tree.map_structure(
        lambda t: torch.tensor(np.asarray(keras.ops.convert_to_numpy(t))), x
    )


def channels_last(x: Tensor, axes: str) -> Tensor:
    """Move the axis before those of space and time behind them, where there are such.

    >>> channels_last(torch.zeros(2, 5, 3, 4), "b c h w").shape
    torch.Size([2, 3, 4, 5])
    >>> channels_last(torch.zeros(2, 5, 3), "b n m").shape
    torch.Size([2, 5, 3])
    >>> channels_last(torch.zeros(2, 1, 3, 4), "b 1 h w").shape
    torch.Size([2, 3, 4, 1])
    """
    names = expand(axes, x.dim()).split()
    first = next((i for i in range(1, len(names)) if set(names[i:]) <= GRID), len(names))
    first += names[1] == "1"  # one plane for all channels
    return x.movedim(first - 1, -1) if 1 < first < len(names) else x


@dataclass
class Pair:
    """A mechanism and its twin, with the same weights."""

    module: Any
    layer: Any
    inputs: tuple[Tensor, ...]
    masks: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, module: Any, given: Mapping[str, Any], inputs: Any, **more: Any) -> Pair:
        more.setdefault("dtype", "float64")
        if not isinstance(module, SequenceAttention):
            more.setdefault("data_format", "channels_last")
        layer = twin(type(module).__name__, given, **more)
        pair = cls(module, layer, tuple(inputs))
        layer(*pair.arrays)
        twins.transfer(module, layer)
        return pair

    @property
    def sequence(self) -> bool:
        return isinstance(self.module, SequenceAttention)

    @property
    def tokens(self) -> bool:
        """Whether torch has the channels last as well."""
        return self.sequence or self.layer.axes.input.endswith("c")

    def _last(self, x: Tensor) -> Tensor:
        return x if self.tokens or x.dim() < 3 else x.movedim(1, -1)

    @property
    def arrays(self) -> list[Any]:
        """The inputs as the layer wants them."""
        turned = self.inputs
        if getattr(self.layer, "data_format", "") == "channels_last":
            turned = [self._last(x) for x in self.inputs]
        dtype = None if self.layer is None else self.layer.compute_dtype
        return [keras.ops.convert_to_tensor(x.detach().numpy(), dtype=dtype) for x in turned]

    def wanted(self, y: Any) -> Any:
        """What torch gave, laid out as the layer lays out its output."""
        if self.sequence or self.layer.data_format == "channels_first":
            return y
        return self._last(y) if isinstance(y, Tensor) else [self._last(t) for t in y]

    @property
    def given(self) -> dict[str, Any]:
        """The masks as the layer wants them."""
        return {n: keras.ops.convert_to_tensor(m.numpy()) for n, m in self.masks.items()}

    def call(self, **options: Any) -> Any:
        return self.layer(*self.arrays, **self.given, **options)


@cache
def pairs_of() -> tuple[Case, ...]:
    """The cases of the laws whose mechanism has a twin."""
    return tuple(case for case in cases() if case.cls.__name__ in catalog.keras_classes())


def pair(case: Case, **more: Any) -> Pair:
    """A case and its twin, all weights random."""
    module = case.module()
    return Pair.of(module, case.options, draw(module), **more)


def gradient(layer: Any, inputs: list[Any], cotangents: list[Tensor], **options: Any) -> list[Any]:
    """The gradient of a weighted sum of outputs by each input, on any backend."""
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
