"""Attention in models that are saved by the mixin of huggingface_hub, as those of smp are.

The file of weights that ``save_pretrained`` writes has the recipe in its metadata, and
``from_pretrained`` builds the insertions before it loads them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..surgery import Recipe, recipe
from ..surgery.recipe import KEY
from ..surgery.site import described
from .around import around


def register() -> None:
    """Let ``PyTorchModelHubMixin`` save and load insertions; it may be called several times."""
    from huggingface_hub import PyTorchModelHubMixin  # type: ignore[attr-defined]  # loaded lazily

    around(PyTorchModelHubMixin, "_save_pretrained", _save)
    around(PyTorchModelHubMixin, "_load_as_safetensor", _load)


def _save(save: Callable[..., None], model: Any, save_directory: Path) -> None:
    """Write the weights, and how the insertions are made into the metadata of their file."""
    if not described(model):
        save(model, save_directory)
        return
    from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
    from safetensors.torch import save_model

    file = str(Path(save_directory) / SAFETENSORS_SINGLE_FILE)
    save_model(model, file, {"format": "pt", KEY: recipe(model).to_json()})


def _load(load: Callable[..., Any], cls: type, model: Any, model_file: str, *args: Any) -> Any:
    """Load weights, into the insertions that belong to them."""
    from safetensors import safe_open

    with safe_open(model_file, "pt") as opened:
        found = (opened.metadata() or {}).get(KEY)
    if found and not described(model):
        Recipe.from_json(found).apply(model, inplace=True)
    return load(cls, model, model_file, *args)
