"""The modules that regard adds to a network, and their hooks."""

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


class Inserted(nn.Module):
    """Base class of the modules that regard adds: a mechanism, and the layout of its input."""

    gamma: nn.Parameter | None

    def __init__(self, mechanism: Mechanism, layout: Layout) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.layout = layout

    def describe(self, path: str, child: str) -> Insertion:
        """Return its description, given its names."""
        parameters = sum(p.numel() for p in self.parameters())
        name = key(type(self.mechanism))
        return Insertion(path, child, name, self.layout, parameters, self.gamma is not None)

    def extra_repr(self) -> str:
        """Show the layout."""
        return str(self.layout)


class InsertedAttention(Inserted):
    r"""Converts a tensor to the axes of a mechanism, runs it, and converts the output back.

    With a gate, :math:`y = x + \gamma\,(A(x) - x)` and :math:`\gamma = 0` at first.

    Args:
        mechanism: :math:`A`.
        layout: The layout of x.
        gated: Whether there is a :math:`\gamma`.
    """

    handle: torch.utils.hooks.RemovableHandle

    def __init__(self, mechanism: Mechanism, layout: Layout, *, gated: bool) -> None:
        super().__init__(mechanism, layout)
        self.gamma = nn.Parameter(torch.zeros(1)) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the mechanism to ``x``."""
        pattern = self.mechanism.axes.input
        y = self.mechanism(self.layout.to_mechanism(x, pattern))
        if not isinstance(y, Tensor | torch.fx.Proxy):
            raise ValueError(f"{type(self.mechanism).__name__} returns a {type(y).__name__}")
        y = self.layout.from_mechanism(y, x, pattern)
        if self.gamma is not None:
            # Subtracting +0 keeps every bit of x; adding ±0, as in the formula, turns -0 into 0.
            y = x - (self.gamma * (x - y) + 0.0)
        return y.to(x.dtype)  # that of y may differ because of autocast or γ


class Replacement(Inserted):
    """A mechanism that replaces a convolution, which it stores outside the state dict.

    Args:
        mechanism: The mechanism.
        replaced: The convolution.
        layout: The layout of its input.
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
    """Description of one mechanism in a model.

    Attributes:
        path: Name of the module that it follows or replaces.
        child: Its name in that module; empty if it replaces it.
        mechanism: Its key in the catalog, or the name of its class.
        layout: The layout of its input.
        parameters: Number of its parameters.
        gated: Whether it has a gate γ, which is 0 at first.
    """

    path: str
    child: str
    mechanism: str
    layout: Layout
    parameters: int
    gated: bool

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.layout.channels

    def __str__(self) -> str:
        where = f"{'after' if self.child else 'in place of'} {self.path or 'the model'}"
        cost = f"{self.parameters:,} parameter{'s' if self.parameters != 1 else ''}"
        return f"{self.mechanism} {where}: {self.channels} channels of {self.layout}, {cost}"


def key(cls: type) -> str:
    """Return the key of a class in the catalog, or its name if it is not in there."""
    known = {entry.name: entry.key for entry in entries().values()}
    return known.get(cls.__name__, cls.__name__)


def free_name(module: nn.Module) -> str:
    """Return the first of ``attention``, ``attention_2``, … that is no attribute of the module."""
    name, number = "attention", 1
    while hasattr(module, name):
        number += 1
        name = f"attention_{number}"
    return name


def attention_hook(module: nn.Module, args: Any, output: Any, *, child: str) -> Any:
    """Return a module's output with its first tensor passed through the inserted attention."""
    attention = getattr(module, child)
    if not isinstance(output, (tuple, list)):
        return attention(output)
    x = first_tensor(output)
    items = [attention(x) if item is x else item for item in output]
    make = getattr(type(output), "_make", type(output))  # a named tuple takes separate fields
    return make(items)


def attach(module: nn.Module, attention: InsertedAttention) -> str:
    """Insert attention after a module, and return its name."""
    name = free_name(module)
    module.add_module(name, attention)
    # Stored, because a handle that is copied or unpickled refers to the copy's own hooks.
    attention.handle = module.register_forward_hook(partial(attention_hook, child=name))
    return name


def inserted_modules(model: nn.Module) -> Iterator[tuple[str, str, Inserted]]:
    """Yield all insertions: name of the module, name of the child ("" if replaced), insertion."""
    for path, module in model.named_modules():
        if isinstance(module, Replacement):
            yield path, "", module
        for name, child in module.named_children():
            if isinstance(child, InsertedAttention):
                yield path, name, child


def detach(model: nn.Module, path: str, child: str) -> None:
    """Remove one insertion."""
    module = model.get_submodule(path)
    if child:
        getattr(module, child).handle.remove()
        delattr(module, child)
    else:
        parent, _, name = path.rpartition(".")
        like = next(module.parameters())
        original = module.replaced[0].to(like.device, like.dtype).train(module.training)
        setattr(model.get_submodule(parent), name, original)
