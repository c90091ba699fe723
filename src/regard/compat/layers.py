"""Old classes for TensorFlow, as Keras layers with the old arguments and calls, channels last."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, ClassVar

import keras
from keras import ops

import regard.keras

from ..catalog import Entry, show
from ..keras.attention import Mechanism, Shape
from .legacy import LegacyClass
from .settings import settings

LAYER = ("name", "dtype", "trainable")  # arguments of all layers


class LegacyLayer(Mechanism):
    """Base class of all old classes: reads their arguments, and saves them in its config."""

    old: ClassVar[LegacyClass]
    new: ClassVar[type[Mechanism]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = [name for name in inspect.signature(self.new).parameters if name != "kwargs"]
        before = settings.legacy_behavior
        given, options = self.old.bind_call(
            args, kwargs, (*own, *LAYER), framework="keras", legacy_behavior=before
        )
        settings.warn(self.new, self.old.warning("keras", options))
        if "data_format" in own:
            options = {"data_format": "channels_last", **options}
        super().__init__(**options)
        further = {name: value for name, value in kwargs.items() if name not in LAYER}
        self.given = {**(self.old.record.before if before else {}), **further, **given}

    @property
    def entry(self) -> Entry:
        """The mechanism's entry in the catalog."""
        return show(self.old.key)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**self.given, **keras.layers.Layer.get_config(self)}


class Queries(Mechanism):
    """Called with queries, keys, values, and a mask that is True where attention is forbidden."""

    def build(
        self, queries_shape: Shape, keys_shape: Any = None, values_shape: Any = None, **others: Any
    ) -> None:
        """Create the weights."""
        super().build(queries_shape, keys_shape, values_shape)

    def call(
        self,
        queries: Any,
        keys: Any = None,
        values: Any = None,
        attention_mask: Any = None,
        attention_weights: Any = None,
    ) -> Any:
        """Run the mechanism."""
        return self.call_with_map(queries, keys, values, attention_mask, attention_weights)[0]

    def call_with_map(
        self,
        queries: Any,
        keys: Any = None,
        values: Any = None,
        attention_mask: Any = None,
        attention_weights: Any = None,
    ) -> tuple[Any, Any]:
        """The output and the map."""
        mask = None if attention_mask is None else ops.logical_not(attention_mask)
        if attention_weights is not None:  # these multiply the scores: s w = s + s (w - 1)
            keys = queries if keys is None else keys
            q, k, *_ = self.prepare(queries, keys, keys if values is None else values)
            scores = ops.matmul(q * q.shape[-1] ** -0.5, ops.swapaxes(k, 2, 3))
            bias = scores * (attention_weights - 1)
            mask = bias if mask is None else ops.where(mask, bias, float("-inf"))
        return super().call_with_map(queries, keys, values, mask)

    def compute_output_shape(self, queries_shape: Shape, **others: Any) -> Shape:
        """The shape of the output: that of the queries."""
        return queries_shape


class ImageTokens(Mechanism):
    """Called with the tokens ``b n c`` of an image whose height and width are arguments."""

    given: dict[str, Any]

    def __call__(self, queries: Any, keys: Any = None, values: Any = None, **options: Any) -> Any:
        """Run the mechanism; keys and values must be the queries."""
        if any(x is not None and x is not queries for x in (keys, values)):
            raise ValueError(f"{type(self).__name__}: keys and values must be the queries")
        return super().__call__(queries, **options)

    def build(self, queries_shape: Shape) -> None:
        """Create the weights."""
        super().build((queries_shape[0], self.given["H"], self.given["W"], queries_shape[2]))

    def call(self, queries: Any) -> Any:
        """Run the mechanism."""
        return self.call_with_map(queries)[0]

    def call_with_map(self, queries: Any) -> tuple[Any, Any]:
        """The output and the map."""
        h, w, (_, n, c) = self.given["H"], self.given["W"], queries.shape
        if n not in (None, h * w):
            raise ValueError(
                f"{type(self).__name__}: expected (b {h * w} c) for H, W = {(h, w)}, "
                f"got {tuple(queries.shape)}"
            )
        y, a = super().call_with_map(ops.reshape(queries, (-1, h, w, c)))
        return ops.reshape(y, (-1, h * w, c)), a

    def compute_output_shape(self, queries_shape: Shape) -> Shape:
        """The shape of the output: that of the queries."""
        return queries_shape


CALLS = {call.__name__: call for call in (Queries, ImageTokens)}


@cache
def legacy_layer(old: LegacyClass) -> type[LegacyLayer]:
    """Create the class that replaces an old one."""
    new = getattr(regard.keras, old.new)
    calls = (CALLS[old.legacy.call],) if old.legacy.call else ()
    body = {"old": old, "new": new, "__module__": old.module, "__doc__": new.__doc__}
    layer = type(old.name, (*calls, LegacyLayer, new), body)
    return keras.saving.register_keras_serializable("regard.compat")(layer)
