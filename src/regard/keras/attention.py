"""The form that every twin has: ``y = f(g(z), z)`` with ``z = e(x)``, on any Keras backend."""

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

Shape = tuple[Any, ...]  # sizes, and None for those that are not known yet


class Form(keras.layers.Layer):
    """What twins of all kinds have in common: the card, and a configuration that can be saved."""

    @property
    def entry(self) -> Entry:
        """What the catalog knows of the mechanism."""
        return show(type(self).__module__.rpartition(".")[2])

    @property
    def card(self) -> Card:
        """The facts about the mechanism."""
        return self.entry.card

    @property
    def axes(self) -> Axes:
        """The axes of the mechanism with these options; by default as the catalog has them."""
        return self.entry.axes

    @abstractmethod
    def see(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The output and the map."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor, which the layer keeps under their names."""
        own = [name for name in inspect.signature(type(self)).parameters if name != "kwargs"]
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def space(x: Any) -> tuple[int, ...]:
    """The axes of space and time, channels last."""
    return tuple(range(1, len(x.shape) - 1))


class Attention(Form):
    """Attention as ``y = f(g(z), z)``: the twin of the mechanism whose file has the same stem.

    A twin writes `construct` (its weights), `attention` (g), `combine` (f) and, where both read
    something that is computed once, `prepare`. Inside, channels are always last: an input that
    has them first is turned at the border, and so is the output. The options are those of the
    mechanism; the number of channels is found when the layer is built.

    Args:
        data_format: Where the channels are: ``channels_last`` or ``channels_first``; by default
            what the Keras configuration says.
        kwargs: What every Keras layer takes: ``name``, ``dtype``, ``trainable``.
    """

    def __init__(self, *, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = keras.config.image_data_format() if data_format is None else data_format
        one_of(("channels_last", "channels_first"), data_format=self.data_format)

    def construct(self, shape: Shape) -> None:
        """Make the weights for inputs of this shape, channels last."""

    def prepare(self, x: Any) -> Any:
        """e: what g and f both read."""
        return x

    @abstractmethod
    def attention(self, x: Any) -> Any:
        """g: the attention map."""

    @abstractmethod
    def combine(self, a: Any, x: Any) -> Any:
        """f: ``x`` seen through the map ``a``."""

    def output_shape_of(self, shape: Shape) -> Any:
        """The shape of the output, channels last; by default that of the input."""
        return shape

    @final
    def build(self, input_shape: Any) -> None:
        """Make the weights.

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
        if self._turned(shape, inward=True)[-1] is None:
            raise ValueError(f"{who}: the channels must be known ({self.data_format}), got {shape}")
        self.construct(self._turned(shape, inward=True))

    @final
    def call(self, x: Any) -> Any:
        """Run the mechanism."""
        return self.see(x)[0]

    @final
    def see(self, x: Any) -> tuple[Any, Any]:
        """The output, and the map with its channels last."""
        z = self.prepare(self._turn(x, inward=True))
        a = self.attention(z)
        y = keras.tree.map_structure(self._outward, self.combine(a, z))
        return y, a

    @final
    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for an input of this shape."""
        shapes = self.output_shape_of(self._turned(tuple(input_shape), inward=True))
        if isinstance(shapes, list):
            return [self._turned(shape, inward=False) for shape in shapes]
        return self._turned(shapes, inward=False)

    def _outward(self, y: Any) -> Any:
        return self._turn(y, inward=False)

    def _stays(self, rank: int) -> bool:
        """Whether channels are last already, as those of tokens always are."""
        tokens = split(self.axes.input)["0"].endswith("c")
        return self.data_format == "channels_last" or rank < 3 or tokens

    def _turn(self, x: Any, *, inward: bool) -> Any:
        if self._stays(len(x.shape)):
            return x
        return ops.moveaxis(x, 1, -1) if inward else ops.moveaxis(x, -1, 1)

    def _turned(self, shape: Shape, *, inward: bool) -> Shape:
        if self._stays(len(shape)):
            return shape
        b, c, *space = shape if inward else (shape[0], *shape[-1:], *shape[1:-1])
        return (b, *space, c) if inward else (b, c, *space)


class SequenceAttention(Form):
    """The same form for queries that read keys and values, ``b n d`` each.

    ``attention_mask`` is boolean (True = may attend) or a bias that is added to the scores, and is
    broadcast to the map. A query that may attend to nothing gets zeros. Keys that Keras itself
    masks (`keras.layers.Masking`, an embedding's ``mask_zero``) are closed too.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def construct(self, query: Shape, key: Shape, value: Shape) -> None:
        """Make the weights for inputs of these shapes."""

    def prepare(self, query: Any, key: Any, value: Any) -> Any:
        """e: what g and f both read."""
        return query, key, value

    @abstractmethod
    def attention(self, x: Any, mask: Any) -> Any:
        """g: the attention map."""

    @abstractmethod
    def combine(self, a: Any, x: Any) -> Any:
        """f: the values seen through the map ``a``."""

    @final
    def build(
        self, query_shape: Any, key_shape: Any = None, value_shape: Any = None, **others: Any
    ) -> None:
        """Make the weights; keys default to the queries, values to the keys.

        Raises:
            ValueError: an input has another rank than three, or unknown channels, or others than
                the card says.
        """
        key_shape = query_shape if key_shape is None else key_shape
        value_shape = key_shape if value_shape is None else value_shape
        shapes = [tuple(shape) for shape in (query_shape, key_shape, value_shape)]
        widths: dict[str, int] = {}
        for (name, axes), shape in zip(split(self.axes.input).items(), shapes, strict=True):
            who, axis = f"{type(self).__name__}: {name}", axes.split()[-1]
            if len(shape) != 3 or shape[-1] is None:
                raise ValueError(
                    f"{who}: expected 3 axes, the last of known size, got {len(shape)}: {shape}"
                )
            want = widths.setdefault(axis, shape[-1])
            if want != shape[-1]:
                raise ValueError(f"{who}: expected axis {axis} = {want} in ({axes}), got {shape}")
        self.construct(*shapes)

    @final
    def call(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        attention_mask: Any = None,
        mask: Any = None,
        query_mask: Any = None,
        key_mask: Any = None,
        value_mask: Any = None,
    ) -> Any:
        """Run the mechanism; keys default to the queries, values to the keys."""
        masks = (mask, query_mask, key_mask, value_mask)
        return self.see(query, key, value, attention_mask, *masks)[0]

    @final
    def see(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        attention_mask: Any = None,
        mask: Any = None,
        query_mask: Any = None,
        key_mask: Any = None,
        value_mask: Any = None,
    ) -> tuple[Any, Any]:
        """The output and the map."""
        if key is None:  # Keras calls a mask so when its tensor comes alone, else by that tensor
            key, key_mask = query, mask if query_mask is None else query_mask
        value = key if value is None else value
        for closed in (key_mask, value_mask):
            if closed is not None:
                attention_mask = parts.narrowed(attention_mask, self._on_keys(closed))
        z = self.prepare(query, key, value)
        a = self.attention(z, attention_mask)
        return self.combine(a, z), a

    def _on_keys(self, may: Any) -> Any:
        """A mask of keys alone, ``b m``, as it is broadcast to the map."""
        ranks = len(split(self.axes.map)["0"].split())
        return ops.reshape(may, (-1, *[1] * (ranks - 2), ops.shape(may)[1]))

    def compute_output_shape(self, query_shape: Any, *others: Any, **more: Any) -> Any:
        """The shape of the output: that of the queries."""
        return query_shape
