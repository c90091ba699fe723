"""Attention in models of timm, saved in the form that its hub functions write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from ..surgery import Recipe, recipe
from ..surgery.files import fill
from ..surgery.recipe import KEY


def save_for_hf(model: nn.Module, folder: str | Path, **options: Any) -> None:
    """Write weights and configuration with ``timm.models.save_for_hf``, and the insertions too.

    Args:
        model: A model of timm with insertions.
        folder: Where ``model.safetensors`` and ``config.json`` are written.
        options: Those of ``timm.models.save_for_hf``, such as ``model_args``.

    Raises:
        ValueError: nothing was inserted.
    """
    from timm.models import save_for_hf as save

    found = recipe(model)
    if not found:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    more = {**(options.pop("model_config", None) or {}), KEY: found.to_dict()}
    save(model, str(folder), model_config=more, safe_serialization=True, **options)


def create_model(name: str, **options: Any) -> nn.Module:
    """Build what `save_for_hf` wrote, with its attention and its weights.

    Args:
        name: ``local-dir:folder``, or ``hf-hub:owner/name`` of a repository with these files.
        options: Those of ``timm.create_model``.

    Raises:
        ValueError: the name is another one, nothing is known of insertions there, or the weights
            do not fit; the message has a table.
    """
    import timm
    from safetensors.torch import load_file

    kind, _, place = name.partition(":")
    if kind not in ("local-dir", "hf-hub"):
        raise ValueError(f"expected local-dir:folder or hf-hub:owner/name, got {name!r}")

    def file(part: str) -> str:
        if kind == "local-dir":
            return str(Path(place) / part)
        from huggingface_hub import hf_hub_download  # type: ignore[attr-defined]  # loaded lazily

        return hf_hub_download(place, part)

    config = json.loads(Path(file("config.json")).read_text("utf-8"))
    if KEY not in config:
        raise ValueError(f"{name} has no recipe in its config.json: save_for_hf writes one here")
    options.pop("pretrained", None)
    model = timm.create_model(name, pretrained=False, **options)
    Recipe.from_dict(config[KEY]).apply(model, inplace=True)
    fill(model, load_file(file("model.safetensors")), name)
    return model
