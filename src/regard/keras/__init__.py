"""The mechanisms as Keras 3 layers: on TensorFlow, JAX or torch, equal to those in torch.

``regard.keras.CBAM()`` is a layer; ``maps(model)`` gives a model's attention maps, and
``transfer(module, layer)`` carries weights over from torch, or back.
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
