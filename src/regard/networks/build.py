"""Build a network from its description, directly or through timm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ..catalog import show
from ..core.names import listing
from ..surgery import insert, replace
from ..surgery.places import match
from .table import NETWORKS, Network, Placement

PREFIX = "regard_"

# timm reads it when it registers a network: how to prepare its images.
default_cfgs: dict[str, dict[str, Any]] = {}
__all__ = ["PREFIX", "build", "register"]  # timm appends the names that it registers


def build(
    network: Network,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    options: Mapping[str, Any],
) -> nn.Module:
    """Build a network; `regard.network` documents the arguments."""
    with nullcontext() if device is None else torch.device(device):
        model = _backbone(network.backbone)(**{**network.arguments, **options})
        if network.places:
            example = _example_images(network, model)
            for place in network.places:
                model = _insert_at(place, model, example)
    for glob in network.without:
        names = match(glob, model.named_modules())
        if not names:
            modules = listing([name for name, _ in model.named_modules()], glob)
            raise ValueError(f"{network.name}: no module matches {glob!r}; there are {modules}")
        for name in names:
            model.set_submodule(name, nn.Identity())
    return model.to(dtype) if dtype else model


def _backbone(address: str) -> Callable[..., nn.Module]:
    library, _, name = address.partition(":")
    if library == "own":
        file, _, factory = name.rpartition(".")
        return getattr(import_module(f"{__package__}.{file}"), factory)
    register()
    import timm

    return partial(timm.create_model, name)


def _example_images(network: Network, model: nn.Module) -> torch.Tensor:
    """Return two images; small ones unless on the meta device, since the same modules run."""
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    shrink = 1 if first.weight.is_meta else 4
    return torch.zeros(2, first.in_channels, *(side // shrink for side in network.input[1:]))


def _insert_at(place: Placement, model: nn.Module, example: torch.Tensor) -> nn.Module:
    options: dict[str, Any] = {"example_input": example, **place.options}
    if show(place.mechanism).card.kind == "convolution":
        return replace(model, place.mechanism, place.at, **options)
    return insert(model, place.mechanism, place.at, start="paper", **options)


@cache
def register() -> None:
    """Register every network that takes images with timm, as ``regard_`` and its name.

    Functions of this package that use timm call it; your own code must, before
    ``timm.create_model``.

    Raises:
        ImportError: timm is not installed.

    >>> import timm
    >>> register()
    >>> timm.list_models("regard_eca*")
    ['regard_eca_resnet18', 'regard_eca_resnet50']
    """
    try:
        from timm.models import PretrainedCfg, register_model
    except ImportError as error:
        raise ImportError('this network needs timm: pip install "regard[vision]"') from error
    for network in NETWORKS.values():
        if len(network.input) == 3 and len(network.shapes) == 1:
            entry = _entry_point(network)
            classes = network.arguments.get("num_classes", 1000)
            cfg = PretrainedCfg(input_size=network.input, num_classes=classes)
            default_cfgs[entry.__name__] = asdict(cfg)
            register_model(entry)


def _entry_point(network: Network) -> Callable[..., nn.Module]:
    """Return the entry point to register with timm; it passes every other keyword to `build`."""

    def entry(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: dict[str, Any] | None = None,
        cache_dir: Any = None,
        **options: Any,
    ) -> nn.Module:
        if pretrained:
            raise ValueError(f"{network.name}: there are no weights for pretrained=True")
        from timm.models import resolve_pretrained_cfg

        # timm's scripts pass it to every network, even if nothing is dropped.
        if options.get("drop_rate") == 0:
            del options["drop_rate"]
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        model: Any = build(network, device, dtype, options)
        if not hasattr(model, "num_classes"):  # timm's scripts read it
            model.num_classes = {"num_classes": 1000, **network.arguments, **options}["num_classes"]
        name = PREFIX + network.name
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay).to_dict()
        model.pretrained_cfg = model.default_cfg = cfg  # not the one of the backbone's weights
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + network.name
    entry.__doc__ = f"{network.title}."
    return entry
