"""The networks of the papers, built to match their published figures.

``regard.network("se_resnet50")`` builds one, ``regard.find_networks()`` lists them. Each is data:
a backbone, of timm or of this package, and the mechanisms to insert into it.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .table import NETWORKS, Network, Placement

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["NETWORKS", "Network", "Placement", "find_networks", "network", "show_network"]

_LAZY = {  # names from modules that import torch
    "register": "build",
    "HEADS": "heads",
    "head": "heads",
    "Segmenter": "segmentation",
    "segmenter": "segmentation",
    "segmentation_loss": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_LAZY])


def network(
    name: str,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    **options: Any,
) -> nn.Module:
    """Build the network of a paper, with new weights.

    Building a network registers all of them with timm, under the prefix ``regard_``:
    ``timm.create_model("regard_se_resnet50")``.

    Args:
        name: Name of the network; `regard.find_networks` lists all.
        device: Device of the parameters; on ``"meta"`` nothing is computed.
        dtype: Type of the parameters.
        options: ``num_classes``, ``in_chans``, and other arguments of the backbone.

    Returns:
        A module that returns the scores; its method ``forward_features`` returns the features.

    Raises:
        ValueError: no network has this name.
        TypeError: the backbone has no such option.
        ImportError: timm is not installed.

    >>> model = network("se_resnet50", num_classes=10, device="meta")
    >>> sum(p.numel() for p in model.parameters())
    26059514
    """
    from .build import build

    return build(show_network(name), device, dtype, options)


def show_network(name: str) -> Network:
    """Return the description of a network, with its published figures.

    Raises:
        ValueError: no network has this name.

    >>> show_network("se_resnet50").published["params_published"]
    '28.09M'
    >>> show_network("se_resnet51")
    Traceback (most recent call last):
    ValueError: no network "se_resnet51"; did you mean "se_resnet50"?
    """
    wanted = name.strip().lower().replace("-", "_")
    if wanted in NETWORKS:
        return NETWORKS[wanted]
    close = get_close_matches(wanted, NETWORKS, n=1)
    hint = f'did you mean "{close[0]}"?' if close else "regard.find_networks() lists them"
    raise ValueError(f'no network "{name}"; {hint}')


def find_networks(text: str | None = None, *, mechanism: str | None = None) -> list[Network]:
    """Return the networks that match all conditions.

    Args:
        text: Words that must be in the name, title or backbone.
        mechanism: Key or alias of the mechanism.

    Raises:
        ValueError: no mechanism has this name.

    >>> [network.name for network in find_networks(mechanism="eca")]
    ['eca_resnet18', 'eca_resnet50']
    """
    chosen = list(NETWORKS.values())
    if mechanism is not None:
        from ..catalog import resolve

        key = resolve(mechanism)
        chosen = [network for network in chosen if network.mechanism == key]
    for word in (text or "").lower().split():
        chosen = [n for n in chosen if word in f"{n.name} {n.title} {n.backbone}".lower()]
    return chosen
