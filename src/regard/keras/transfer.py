"""Copies weights between a mechanism and its twin, whose attributes have the same names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import keras
import numpy as np

Target = TypeVar("Target")  # a torch module, which Keras does without, or a layer

NORM_WEIGHTS = {
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
SKIPPED = "num_batches_tracked"  # Keras does not count batches


def transfer(source: object, target: Target) -> Target:
    """Copy all weights from a torch module to its built Keras twin, or back.

    Args:
        source: A torch module, or a built layer of `regard.keras`.
        target: The other one; its weights are overwritten.

    Returns:
        The target.

    Raises:
        ValueError: the layer is not built, or a weight has no counterpart of its size.
    """
    to_torch = isinstance(source, keras.layers.Layer)
    layer: Any = source if to_torch else target
    module: Any = target if to_torch else source
    if not layer.built:
        raise ValueError(f"{type(layer).__name__} has no weights yet: call it on an input first")
    tensors = {n: t for n, t in module.state_dict().items() if not n.endswith(SKIPPED)}
    pairs = {name: _weight(layer, name) for name in tensors}
    paired = {id(weight) for weight in pairs.values()}
    wrong = [f"{name} has no counterpart" for name, weight in pairs.items() if weight is None]
    wrong += [f"{w.path} has no counterpart" for w in _weights(layer) if id(w) not in paired]
    wrong += [
        f"{name} is {tuple(tensors[name].shape)}, {weight.path} {tuple(weight.shape)}"
        for name, weight in pairs.items()
        if weight is not None and tensors[name].numel() != np.prod(weight.shape)
    ]
    if wrong:
        raise ValueError(f"{type(module).__name__} and its twin differ: {'; '.join(wrong)}")
    for name, weight in pairs.items():
        if to_torch:
            value = _outputs_first(weight, weight.numpy())
            tensors[name].copy_(tensors[name].new_tensor(value.reshape(tensors[name].shape)))
        else:
            value = tensors[name].detach().cpu().double().numpy()
            weight.assign(_outputs_last(weight, value).reshape(weight.shape))
    return target


def _weights(layer: keras.layers.Layer) -> Iterable[Any]:
    """Return the weights and the moving averages, without the states of random generators."""
    return [w for w in layer.weights if "seed_generator" not in w.path]


def _weight(layer: Any, name: str) -> Any:
    """Return the weight of a layer that has this name in torch, or None."""
    *path, last = name.split(".")
    for step in path:
        layer = layer[int(step)] if step.isdigit() else getattr(layer, step, None)
        if layer is None:
            return None
    if isinstance(layer, NORMS):
        return getattr(layer, NORM_WEIGHTS.get(last, last))
    if last == "weight" and not hasattr(layer, "weight"):
        last = "kernel"
    return getattr(layer, last, None)


def _is_kernel(weight: Any) -> bool:
    return weight.path.rpartition("/")[2] == "kernel"


def _outputs_last(weight: Any, value: np.ndarray) -> np.ndarray:
    """Move the axes of a kernel from torch's order, outputs and inputs first, to that of Keras."""
    if not _is_kernel(weight):
        return value
    value = value.reshape(*value.shape[:2], *weight.shape[:-2])
    return np.moveaxis(value, (0, 1), (-1, -2))


def _outputs_first(weight: Any, value: np.ndarray) -> np.ndarray:
    """Move the axes of a kernel from the order of Keras to torch's."""
    return np.moveaxis(value, (-1, -2), (0, 1)) if _is_kernel(weight) else value
