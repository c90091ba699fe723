"""A model that gives its attention maps besides its outputs."""

from __future__ import annotations

from typing import Any

import keras

from .attention import Form


@keras.saving.register_keras_serializable("regard")
class Watched(keras.layers.Layer):
    """A twin that gives its output and its map, with the weights of the twin itself."""

    def __init__(self, layer: Form, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", layer.dtype_policy)  # or it hands on its inputs uncast
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = layer.supports_masking

    def call(self, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        """The output and the map."""
        return self.layer.see(*inputs, **options)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """The mask of the output is that of the queries; the map has none."""
        return keras.tree.flatten(previous_mask)[0]


def maps(model: keras.Model) -> keras.Model:
    """Give a model that returns all attention maps, by the names of their layers.

    The new model shares its weights with the old one, which is left as it is. Maps have their
    channels last; the cards tell their axes. A layer inside a model inside the model is called
    ``inner/layer``; one that is used again, ``layer_1``.

    Args:
        model: A functional or sequential model.

    Raises:
        ValueError: the model is neither, or has no layer of `regard.keras`.
    """
    watching = _watching(model)
    if watching is None:
        raise ValueError(f"{model.name}: no layer of regard.keras is in it")
    return keras.Model(watching.input, watching.output[1], name=f"{model.name}_maps")


def _watching(model: keras.Model) -> keras.Model | None:
    """The same model with ``(output, maps)`` as its output, or None where nothing is to be seen."""
    graph = model
    if isinstance(model, keras.Sequential):
        graph = keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(graph, "operations"):  # of a graph; the class itself has no public name
        raise ValueError(
            f"{model.name}: expected a functional or sequential model, got {type(model).__name__}; "
            "of other models ask the layers: layer.see(x) gives the output and the map"
        )
    found: dict[str, Any] = {}

    def keep(name: str, a: Any) -> None:
        again = sum(known == name or known.startswith(f"{name}_") for known in found)
        found[f"{name}_{again}" if name in found else name] = a

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if isinstance(layer, Form):
            y, a = Watched(layer)(*inputs, **options)
            keep(layer.name, a)
            return y
        if isinstance(layer, keras.Model) and (inner := _watching(layer)) is not None:
            y, within = inner(*inputs, **options)
            for name, a in within.items():
                keep(f"{layer.name}/{name}", a)
            return y
        return layer(*inputs, **options)

    same = keras.models.clone_model(graph, clone_function=lambda layer: layer, call_function=call)
    if not found:
        return None
    return keras.Model(same.input, (same.output, found), name=graph.name)
