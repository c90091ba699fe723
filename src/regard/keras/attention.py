"""The form that every twin has: ``y = f(g(z), z)`` with ``z = prepare(x)``, on any backend."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any, final

import keras
from keras import ops

from ..catalog import Entry, show
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of
from ..core.shapes import split
from . import parts
from .parts import Tensor

Shape = tuple[Any, ...]  # sizes; None if not known yet


class Mechanism(keras.layers.Layer):
    """What all twins share: the card, and a configuration that can be saved."""

    @property
    def entry(self) -> Entry:
        """The mechanism's entry in the catalog."""
        return show(type(self).__module__.rpartition(".")[2])

    @property
    def card(self) -> Card:
        """The facts about the mechanism."""
        return self.entry.card

    @property
    def axes(self) -> Axes:
        """The named axes of this layer; by default those of the card."""
        return self.entry.axes

    @abstractmethod
    def call_with_map(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Return the output and the map."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, which the layer keeps as attributes."""
        own = [name for name in inspect.signature(type(self)).parameters if name != "kwargs"]
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def spatial_axes(x: Tensor) -> tuple[int, ...]:
    """Return the axes of space and time of ``b * c``."""
    return tuple(range(1, len(x.shape) - 1))


class Attention(Mechanism):
    """Attention as ``y = f(g(z), z)``: the twin of the mechanism in the file of the same name.

    A twin writes `construct` (its weights), `attention` (g), `combine` (f) and, if both need
    something that should be computed once, `prepare`. These methods always have the channels last:
    an input with channels first is transposed before them, and the output after them. The options
    are those of the mechanism; the number of channels is read from the input.

    Args:
        data_format: ``channels_last`` or ``channels_first``; by default
            `keras.config.image_data_format`.
        kwargs: What every Keras layer takes: ``name``, ``dtype``, ``trainable``.
    """

    def __init__(self, *, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        one_of(("channels_last", "channels_first"), data_format=self.data_format)

    def construct(self, shape: Shape, /) -> None:
        """Create the weights for inputs of this shape, channels last."""

    def prepare(self, x: Tensor, /) -> Any:
        """Compute once what `attention` and `combine` both need; by default ``x`` itself."""
        return x

    @abstractmethod
    def attention(self, z: Any, /) -> Any:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: Any, z: Any, /) -> Any:
        """f: apply the map ``a`` to ``z``."""

    def output_shape_of(self, shape: Shape) -> Shape | list[Shape]:
        """Return the shape of the output, channels last; by default that of the input."""
        return shape

    @final
    def build(self, input_shape: Shape) -> None:
        """Create the weights.

        Raises:
            ValueError: the input has another rank than the mechanism, or unknown channels.
        """
        shape = tuple(input_shape)
        axes = split(self.axes.input)["0"]
        ranks = (3, 4, 5) if "*" in axes else (len(axes.split()),)
        who = type(self).__name__
        if len(shape) not in ranks:
            want = " to ".join(map(str, dict.fromkeys((ranks[0], ranks[-1]))))
            raise ValueError(f"{who}: expected {want} axes, got {len(shape)}: {shape}")
        last = self._shape_to_last(shape)
        if last[-1] is None:
            raise ValueError(f"{who}: the channels must be known ({self.data_format}), got {shape}")
        self.construct(last)

    @final
    def call(self, x: Tensor) -> Any:
        """Run the mechanism."""
        return self.call_with_map(x)[0]

    @final
    def call_with_map(self, x: Tensor) -> tuple[Any, Any]:
        """Return the output, and the map with channels last."""
        z = self.prepare(x if self._is_last(len(x.shape)) else ops.moveaxis(x, 1, -1))
        a = self.attention(z)
        return keras.tree.map_structure(self._from_last, self.combine(a, z)), a

    @final
    def compute_output_shape(self, input_shape: Shape) -> Shape | list[Shape]:
        """Return the shape of the output for an input of this shape."""
        shapes = self.output_shape_of(self._shape_to_last(tuple(input_shape)))
        if isinstance(shapes, list):
            return [self._shape_from_last(shape) for shape in shapes]
        return self._shape_from_last(shapes)

    def _is_last(self, rank: int) -> bool:
        """Return whether channels already are the last axis, as those of tokens always are."""
        tokens = split(self.axes.input)["0"].endswith("c")
        return self.data_format == "channels_last" or rank < 3 or tokens

    def _from_last(self, y: Tensor) -> Tensor:
        return y if self._is_last(len(y.shape)) else ops.moveaxis(y, -1, 1)

    def _shape_to_last(self, shape: Shape) -> Shape:
        return shape if self._is_last(len(shape)) else (shape[0], *shape[2:], shape[1])

    def _shape_from_last(self, shape: Shape) -> Shape:
        return shape if self._is_last(len(shape)) else (shape[0], shape[-1], *shape[1:-1])


class SequenceAttention(Mechanism):
    """The same form for queries that read keys and values, ``b n d`` each.

    ``attention_mask`` is boolean (True = may attend) or a bias added to the scores, and is
    broadcast to the map. A query that may attend to nothing gets zeros. Keys that Keras itself
    masks (`keras.layers.Masking`, an embedding's ``mask_zero``) are masked too.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def construct(self, query: Shape, key: Shape, value: Shape, /) -> None:
        """Create the weights for inputs of these shapes."""

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        """Compute once what `attention` and `combine` both need; by default the three inputs."""
        return query, key, value

    @abstractmethod
    def attention(self, z: Any, /, mask: Tensor | None) -> Any:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: Any, z: Any, /) -> Any:
        """f: apply the map ``a`` to the values in ``z``."""

    @final
    def build(
        self,
        query_shape: Shape,
        key_shape: Shape | None = None,
        value_shape: Shape | None = None,
        **others: Any,
    ) -> None:
        """Create the weights; keys default to the queries, values to the keys.

        Raises:
            ValueError: an input has another rank than three, an unknown number of channels, or one
                that differs where the card has the same axis.
        """
        key_shape = query_shape if key_shape is None else key_shape
        value_shape = key_shape if value_shape is None else value_shape
        shapes = [tuple(shape) for shape in (query_shape, key_shape, value_shape)]
        sizes: dict[str, int] = {}
        for (name, axes), shape in zip(split(self.axes.input).items(), shapes, strict=True):
            who, axis = f"{type(self).__name__}: {name}", axes.split()[-1]
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    f"{who}: expected 3 axes, the last of known size, got {len(shape)}: {shape}"
                )
            want = sizes.setdefault(axis, shape[-1])
            if want != shape[-1]:
                raise ValueError(f"{who}: expected axis {axis} = {want} in ({axes}), got {shape}")
        self.construct(*shapes)

    @final
    def call(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mask: Tensor | None = None,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
    ) -> Any:
        """Run the mechanism; keys default to the queries, values to the keys."""
        masks = (mask, query_mask, key_mask, value_mask)
        return self.call_with_map(query, key, value, attention_mask, *masks)[0]

    @final
    def call_with_map(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mask: Tensor | None = None,
        query_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Return the output and the map."""
        if key is None:
            # Keras passes the mask of the queries as `mask` if they are the only tensor, and as
            # `query_mask` otherwise.
            key, key_mask = query, mask if query_mask is None else query_mask
        value = key if value is None else value
        for allowed in (key_mask, value_mask):
            if allowed is not None:
                attention_mask = parts.and_mask(attention_mask, self._over_keys(allowed))
        z = self.prepare(query, key, value)
        a = self.attention(z, attention_mask)
        return self.combine(a, z), a

    def _over_keys(self, mask: Tensor) -> Tensor:
        """Reshape a mask of keys, ``b m``, so that it is broadcast to the map."""
        rank = len(split(self.axes.map)["0"].split())
        return ops.reshape(mask, (-1, *[1] * (rank - 2), ops.shape(mask)[1]))

    def compute_output_shape(self, query_shape: Shape, *others: Any, **more: Any) -> Shape:
        """Return the shape of the output: that of the queries."""
        return query_shape
