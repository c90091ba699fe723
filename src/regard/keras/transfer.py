"""Weights carried over between a mechanism in torch and its twin, by the path of attributes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)
UNCOUNTED = "num_batches_tracked"  # Keras counts no batches


def transfer(source: Any, target: Any) -> Any:
    """Copy all weights from a torch module to its built Keras twin, or back.

    Args:
        source: A torch module, or a built layer of `regard.keras`.
        target: The other one; its weights are overwritten.

    Returns:
        The target.

    Raises:
        ValueError: the layer is not built, or a weight has no counterpart of its size.
    """
    backwards = isinstance(source, keras.layers.Layer)
    layer, module = (source, target) if backwards else (target, source)
    if not layer.built:
        raise ValueError(f"{type(layer).__name__} has no weights yet: call it on an input first")
    entries = {n: t for n, t in module.state_dict().items() if not n.endswith(UNCOUNTED)}
    pairs = {name: _weight(layer, name) for name in entries}
    paired = {id(weight) for weight in pairs.values()}
    wrong = [f"{name} has no counterpart" for name, weight in pairs.items() if weight is None]
    wrong += [f"{w.path} has no counterpart" for w in _weights(layer) if id(w) not in paired]
    wrong += [
        f"{name} is {tuple(entries[name].shape)}, {weight.path} {tuple(weight.shape)}"
        for name, weight in pairs.items()
        if weight is not None and entries[name].numel() != np.prod(weight.shape)
    ]
    if wrong:
        raise ValueError(f"{type(module).__name__} and its twin differ: {'; '.join(wrong)}")
    for name, weight in pairs.items():
        if backwards:
            value = _outputs_first(weight, weight.numpy())
            entries[name].copy_(entries[name].new_tensor(value.reshape(entries[name].shape)))
        else:
            value = entries[name].detach().cpu().double().numpy()
            weight.assign(_outputs_last(weight, value).reshape(weight.shape))
    return target


def _weights(layer: keras.layers.Layer) -> list[Any]:
    """What is trained or moved; the states of random generators are neither."""
    return [w for w in layer.weights if "seed_generator" not in w.path]


def _weight(layer: Any, name: str) -> Any:
    """The weight of a layer whose counterpart in torch is called so."""
    *path, last = name.split(".")
    for step in path:
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step, None)
        if layer is None:
            return None
    if isinstance(layer, NORMS):
        return getattr(layer, NORM.get(last, last))
    if last == "weight" and not hasattr(layer, "weight"):
        last = "kernel"
    return getattr(layer, last, None)


def _is_kernel(weight: Any) -> bool:
    return weight.path.rpartition("/")[2] == "kernel"


def _outputs_last(weight: Any, value: np.ndarray) -> np.ndarray:
    """Torch has the outputs of a kernel first, then the inputs; Keras has them at the end."""
    if not _is_kernel(weight):
        return value
    value = value.reshape(*value.shape[:2], *weight.shape[:-2])
    return np.moveaxis(value, (0, 1), (-1, -2))


def _outputs_first(weight: Any, value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, (-1, -2), (0, 1)) if _is_kernel(weight) else value
