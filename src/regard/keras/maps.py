"""A model that returns the attention maps of another one."""

from __future__ import annotations

from typing import Any

import keras

from .attention import Mechanism


@keras.saving.register_keras_serializable("regard")
class WithMap(keras.layers.Layer):
    """Returns the output and the map of a twin, whose weights it shares."""

    def __init__(self, layer: Mechanism, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", layer.dtype_policy)  # otherwise it would not cast its inputs
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = layer.supports_masking

    def call(self, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        """Return the output and the map."""
        return self.layer.call_with_map(*inputs, **options)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Return the mask of the queries for the output; the map has none."""
        return keras.tree.flatten(previous_mask)[0]


def maps(model: keras.Model) -> keras.Model:
    """Return a model that computes all attention maps, by the names of their layers.

    The new model shares its weights with the old one, which is not changed. Maps have their
    channels last; the cards name their axes. A layer of a model within the model is named
    ``inner/layer``; the second use of a layer, ``layer_1``.

    Args:
        model: A functional or sequential model.

    Raises:
        ValueError: the model is neither, or has no layer of `regard.keras`.
    """
    with_maps = _with_maps(model)
    if with_maps is None:
        raise ValueError(f"{model.name}: no layer of regard.keras is in it")
    return keras.Model(with_maps.input, with_maps.output[1], name=f"{model.name}_maps")


def _with_maps(model: keras.Model) -> keras.Model | None:
    """Return the same model with ``(output, maps)`` as its output, or None if it has no maps."""
    graph = model
    if isinstance(model, keras.Sequential):
        graph = keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(graph, "operations"):  # of a graph; the class itself has no public name
        raise ValueError(
            f"{model.name}: expected a functional or sequential model, got {type(model).__name__}; "
            "in other models, layer.call_with_map(x) returns the output and the map of a layer"
        )
    found: dict[str, Any] = {}

    def keep(name: str, a: Any) -> None:
        uses = sum(known == name or known.startswith(f"{name}_") for known in found)
        found[f"{name}_{uses}" if name in found else name] = a

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if isinstance(layer, Mechanism):
            y, a = WithMap(layer)(*inputs, **options)
            keep(layer.name, a)
            return y
        if isinstance(layer, keras.Model) and (inner := _with_maps(layer)) is not None:
            y, inner_maps = inner(*inputs, **options)
            for name, a in inner_maps.items():
                keep(f"{layer.name}/{name}", a)
            return y
        return layer(*inputs, **options)

    clone = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    if not found:
        return None
    return keras.Model(clone.input, (clone.output, found), name=graph.name)
