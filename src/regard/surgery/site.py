"""What stands in a network after an operation, and how it got there: child, hook, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..catalog import entries
from ..core.attention import Mechanism
from .dry_run import first_tensor
from .layout import Layout


class Guest(nn.Module):
    """What regard puts into a network: a mechanism, and how the tensor lies that it gets."""

    gamma: nn.Parameter | None

    def __init__(self, mechanism: Mechanism, layout: Layout) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.layout = layout

    def report(self, path: str, child: str) -> Insertion:
        """Say what it is at that place."""
        count = sum(p.numel() for p in self.parameters())
        name = key(type(self.mechanism))
        return Insertion(path, child, name, self.layout, count, self.gamma is not None)

    def extra_repr(self) -> str:
        """Show how the tensor lies."""
        return str(self.layout)


class Site(Guest):
    r"""A mechanism at a place: brings the tensor to its axes, runs it, and brings it back.

    With a gate, :math:`y = x + \gamma\,(A(x) - x)` and :math:`\gamma = 0` at first.

    Args:
        mechanism: :math:`A`.
        layout: How the tensor lies.
        gated: Whether there is a :math:`\gamma`.
    """

    handle: torch.utils.hooks.RemovableHandle

    def __init__(self, mechanism: Mechanism, layout: Layout, *, gated: bool) -> None:
        super().__init__(mechanism, layout)
        self.gamma = nn.Parameter(torch.zeros(1)) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """See ``x`` through the mechanism."""
        pattern = self.mechanism.axes.input
        y = self.mechanism(self.layout.take(x, pattern))
        if not isinstance(y, Tensor):
            raise ValueError(f"{type(self.mechanism).__name__} returns a {type(y).__name__}")
        y = self.layout.give(y, x, pattern)
        if self.gamma is not None:
            # Taking +0 away keeps every bit of x; adding ±0, as the formula says, turns -0 into 0.
            y = x - (self.gamma * (x - y) + 0.0)
        return y.to(x.dtype)  # autocast and γ may have another


class Replacement(Guest):
    """A mechanism where a convolution stood, which it keeps out of the state dict.

    Args:
        mechanism: What runs.
        replaced: What stood here.
        layout: How its input lies.
    """

    def __init__(self, mechanism: Mechanism, replaced: nn.Module, layout: Layout) -> None:
        super().__init__(mechanism, layout)
        self.gamma = None
        self.replaced = (replaced,)

    def forward(self, x: Tensor) -> Tensor:
        """Run the mechanism."""
        return self.mechanism(x)


@dataclass(frozen=True)
class Insertion:
    """One mechanism at one place.

    Attributes:
        path: Name of the module that it follows, or whose place it takes.
        child: Its name in that module; empty where it replaces it.
        mechanism: Its key in the catalog, or the name of its class.
        layout: How the tensor lies there.
        parameters: How many parameters it adds.
        gated: Whether it starts behind γ = 0.
    """

    path: str
    child: str
    mechanism: str
    layout: Layout
    parameters: int
    gated: bool

    @property
    def channels(self) -> int:
        """The number of channels there."""
        return self.layout.channels

    def __str__(self) -> str:
        where = f"{'after' if self.child else 'in place of'} {self.path or 'the model'}"
        cost = f"{self.parameters:,} parameter{'s' if self.parameters != 1 else ''}"
        return f"{self.mechanism} {where}: {self.channels} channels of {self.layout}, {cost}"


def key(cls: type) -> str:
    """What the catalog calls a class; its own name where it is not in there."""
    known = {entry.name: entry.key for entry in entries().values()}
    return known.get(cls.__name__, cls.__name__)


def free_name(host: nn.Module) -> str:
    """The first of ``attention``, ``attention_2``, … that the host does not use."""
    name, number = "attention", 1
    while hasattr(host, name):
        number += 1
        name = f"attention_{number}"
    return name


def attend(host: nn.Module, args: Any, output: Any, *, child: str) -> Any:
    """The hook: what the host returns, its first tensor seen through one of its sites."""
    site = getattr(host, child)
    if not isinstance(output, (tuple, list)):
        return site(output)
    x = first_tensor(output)
    seen = [site(x) if item is x else item for item in output]
    make = getattr(type(output), "_make", type(output))  # a named tuple takes its fields apart
    return make(seen)


def attach(host: nn.Module, site: Site) -> str:
    """Let a site follow a module; return the name it got."""
    name = free_name(host)
    host.add_module(name, site)
    # Kept, because a handle that is copied or unpickled still points at the copy's own hooks.
    site.handle = host.register_forward_hook(partial(attend, child=name))
    return name


def guests(model: nn.Module) -> Iterator[tuple[str, str, Guest]]:
    """Every site and replacement: name of the place, name of the child there, module."""
    for path, module in model.named_modules():
        if isinstance(module, Replacement):
            yield path, "", module
        for name, child in module.named_children():
            if isinstance(child, Site):
                yield path, name, child


def detach(model: nn.Module, path: str, child: str) -> None:
    """Take one site or replacement out again."""
    host = model.get_submodule(path)
    if child:
        getattr(host, child).handle.remove()
        delattr(host, child)
    else:
        parent, _, name = path.rpartition(".")
        like = next(host.parameters())
        back = host.replaced[0].to(like.device, like.dtype).train(host.training)
        setattr(model.get_submodule(parent), name, back)
