"""The mechanisms as Keras 3 layers on TensorFlow, JAX or torch, with the same results.

``regard.keras.CBAM()`` is a layer; ``maps(model)`` returns a model that computes the attention
maps, and ``transfer(module, layer)`` copies weights from torch to Keras, or back.
"""

from importlib import import_module
from typing import Any

from ..catalog import keras_classes

_TOOLS = {"maps": "maps", "transfer": "transfer"}


def __getattr__(name: str) -> Any:
    stem = _TOOLS.get(name) or (keras_classes().get(name) if not name.startswith("_") else None)
    if stem is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{stem}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_TOOLS, *keras_classes()])
