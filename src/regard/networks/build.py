"""From a row of the table to a module, by its own name or through timm."""

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

# What timm reads where it registers a network: how its images are prepared.
default_cfgs: dict[str, dict[str, Any]] = {}
__all__ = ["PREFIX", "build", "register"]  # timm adds the names that it registers


def build(
    network: Network,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    options: Mapping[str, Any],
) -> nn.Module:
    """Build one network; `regard.network` says how."""
    with nullcontext() if device is None else torch.device(device):
        model = _backbone(network.backbone)(**{**network.arguments, **options})
        if network.places:
            example = _example(network, model)
            for place in network.places:
                model = _put(place, model, example)
    for glob in network.without:
        names = match(glob, model.named_modules())
        if not names:
            there = listing([name for name, _ in model.named_modules()], glob)
            raise ValueError(f"{network.name}: nothing is called {glob!r}; there are {there}")
        for name in names:
            model.set_submodule(name, nn.Identity())
    return model.to(dtype) if dtype else model


def _backbone(address: str) -> Callable[..., nn.Module]:
    library, _, name = address.partition(":")
    if library == "own":
        file, _, maker = name.rpartition(".")
        return getattr(import_module(f"{__package__}.{file}"), maker)
    register()
    import timm

    return partial(timm.create_model, name)


def _example(network: Network, model: nn.Module) -> torch.Tensor:
    """Two images, small where they are computed: the modules that run are the same."""
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    part = 1 if first.weight.is_meta else 4
    return torch.zeros(2, first.in_channels, *(side // part for side in network.input[1:]))


def _put(place: Placement, model: nn.Module, example: torch.Tensor) -> nn.Module:
    options: dict[str, Any] = {"example_input": example, **place.options}
    if show(place.mechanism).card.kind == "convolution":
        return replace(model, place.mechanism, place.at, **options)
    return insert(model, place.mechanism, place.at, start="paper", **options)


@cache
def register() -> None:
    """Let timm know every network of images under its name behind ``regard_``.

    It is called wherever timm is first used here; call it before ``timm.create_model`` does.

    Raises:
        ImportError: timm is not there.

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
            entry = _entry(network)
            classes = network.arguments.get("num_classes", 1000)
            cfg = PretrainedCfg(input_size=network.input, num_classes=classes)
            default_cfgs[entry.__name__] = asdict(cfg)
            register_model(entry)


def _entry(network: Network) -> Callable[..., nn.Module]:
    """The function that timm calls, which hands on more than it was asked."""

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

        # timm's scripts hand this to every network, also where nothing is to be dropped.
        if options.get("drop_rate") == 0:
            del options["drop_rate"]
        device, dtype = options.pop("device", None), options.pop("dtype", None)
        model: Any = build(network, device, dtype, options)
        if not hasattr(model, "num_classes"):  # timm's scripts ask for it
            model.num_classes = {"num_classes": 1000, **network.arguments, **options}["num_classes"]
        name = PREFIX + network.name
        cfg = resolve_pretrained_cfg(name, pretrained_cfg, pretrained_cfg_overlay).to_dict()
        model.pretrained_cfg = model.default_cfg = cfg  # not those of the backbone's weights
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + network.name
    entry.__doc__ = f"{network.title}."
    return entry
