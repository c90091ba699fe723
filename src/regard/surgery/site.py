"""The modules that regard adds to a network, and how they get in and out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..catalog import entries
from ..core.attention import Mechanism
from ..core.names import listing
from ..core.tracing import leaf, recording
from ..core.watching import path_of
from .grids import Sized, Sizes
from .layout import Layout
from .outputs import Path
from .places import At, match
from .wrapper import Attended, Counted, Wrapper, innermost


class Inserted(nn.Module):
    """Base class of the modules that regard adds: a mechanism, and the layout of its input."""

    gamma: nn.Parameter | None

    def __init__(self, mechanism: Mechanism, layout: Layout) -> None:
        super().__init__()
        self.mechanism = mechanism
        self.layout = layout

    def describe(
        self, path: str, child: str, output: Path = (), runs: Collection[int] | None = None
    ) -> Insertion:
        """Return its description, given its names and where its tensor is."""
        parameters = sum(p.numel() for p in self.parameters())
        name = key(type(self.mechanism))
        gated = self.gamma is not None
        which = tuple(sorted(runs or ()))
        return Insertion(path, child, name, self.layout, parameters, gated, output, which)

    def reset_parameters(self) -> None:
        """Initialize the mechanism, and let it start as it did."""
        if self.gamma is not None:
            nn.init.zeros_(self.gamma)
        self.mechanism.reset_parameters()

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
        grid: Whether tokens are put into the order of their grid.
        sizes: Where the grid of the pass that runs is noted; by default it is that of the layout.
        some_runs: Whether the module also runs with other channels, which this one leaves alone.
    """

    def __init__(
        self,
        mechanism: Mechanism,
        layout: Layout,
        *,
        gated: bool,
        grid: bool = False,
        sizes: Sizes | None = None,
        some_runs: bool = False,
    ) -> None:
        super().__init__(mechanism, layout)
        self.gamma = nn.Parameter(torch.zeros(1)) if gated else None
        self.grid = grid
        self.sizes = sizes
        self.some_runs = some_runs
        self.converts = layout.converts(mechanism.axes.input)
        self.any_order = any_order(mechanism)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the mechanism to ``x``."""
        if self.some_runs and x.shape[self.layout.axis] != self.layout.channels:
            return x
        pattern = self.mechanism.axes.input
        z = x
        if self.converts:
            z = self.layout.to_mechanism(x, pattern, self._grid(), must_fit=not self.any_order)
        y = self.mechanism(z)
        if isinstance(y, tuple):
            raise ValueError(f"{type(self.mechanism).__name__} returns several tensors")
        if self.converts:
            y = self.layout.from_mechanism(y, x, pattern)
        if self.gamma is not None:
            # Subtracting +0 keeps every bit of x; adding ±0, as in the formula, turns -0 into 0.
            y = x - (self.gamma * (x - y) + 0.0)
        return _like(y, x)

    def _grid(self) -> Sequence[int | Tensor] | None:
        if not self.grid or self.sizes is None:
            return self.layout.grid if self.grid else None
        if self.sizes.grid is None:
            raise ValueError("the grid of the tokens is unknown: run the whole network")
        return self.sizes.grid


def any_order(mechanism: Mechanism) -> bool:
    """Return whether the order of positions makes no difference, so that no grid is needed."""
    card = getattr(mechanism, "card", None)
    return card is not None and "pixels" in card.equivariant


@leaf
def _like(y: Tensor, x: Tensor) -> Tensor:
    """Return ``y`` with the dtype of ``x``, which autocast or γ changes, and with its strides.

    The strides matter even where an axis has size one: the layers that follow choose their kernels
    by them, whose last bits differ.
    """
    if y.dtype != x.dtype:
        y = y.to(x.dtype)
    strides, wanted = y.stride(), x.stride()
    if strides == wanted or recording():
        return y
    moved = (s != w for size, s, w in zip(x.shape, strides, wanted, strict=True) if size > 1)
    return y if any(moved) else y.as_strided(x.shape, wanted)


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
        output: Where its tensor is in what the module returns; empty if it is all of it.
        runs: The runs of the module that it follows; empty if it follows all.
    """

    path: str
    child: str
    mechanism: str
    layout: Layout
    parameters: int
    gated: bool
    output: Path = ()
    runs: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.layout.channels

    def __str__(self) -> str:
        where = f"{'after' if self.child else 'in place of'} {self.path or 'the model'}"
        where += "".join(f"[{key!r}]" for key in self.output)
        where += f", run {' and '.join(map(str, self.runs))}" if self.runs else ""
        cost = f"{self.parameters:,} parameter{'s' if self.parameters != 1 else ''}"
        return f"{self.mechanism} {where}: {self.channels} channels of {self.layout}, {cost}"


def key(cls: type) -> str:
    """Return the key of a class in the catalog, or its name if it is not in there."""
    known = {entry.name: entry.key for entry in entries().values()}
    return known.get(cls.__name__, cls.__name__)


def attach(model: nn.Module, one: Insertion, attention: InsertedAttention) -> nn.Module:
    """Insert attention after a module, as it is described, and return the model."""
    module = outermost(model, one.path)
    if (place := attended(module)) is None:
        place = Attended(module)
        model = exchanged(model, module, place)
    place.attend(attention.train(module.training), one.output, one.runs or None, one.child)
    if one.runs:
        parent, _, name = one.path.rpartition(".")
        around = outermost(model, parent)
        if not any(w._counts == name for w in wrappers(around) if isinstance(w, Counted)):
            model = exchanged(model, around, Counted(around, name))
    return model


def wrappers(module: nn.Module) -> Iterator[Wrapper]:
    """Yield the wrappers around a module, outermost first."""
    while isinstance(module, Wrapper):
        yield module
        module = module.host


def exchanged(model: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put a module in the place of another one, under all its names, and return the model."""
    if model is old:
        return new
    for parent in [m for m in model.modules() if m is not new]:
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
    return model


def outermost(model: nn.Module, path: str) -> nn.Module:
    """Return the module at a path, with the wrappers around it."""
    return next(module for name, module in model.named_modules() if path_of(name) == path)


def paths(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return all modules with their paths, without the wrappers around them."""
    found = {path_of(name): module for name, module in model.named_modules()}
    return [(path, innermost(module)) for path, module in found.items()]


def described(model: nn.Module) -> list[Insertion]:
    """Return the descriptions of all insertions."""
    found = []
    for path, child, inserted in inserted_modules(model):
        place = attended(outermost(model, path))
        output = place._paths[child] if child and place else ()
        runs = place._runs.get(child) if child and place else None
        found.append(inserted.describe(path, child, output, runs))
    return found


def attended(module: nn.Module) -> Attended | None:
    """Return the wrapper with attention among those around a module."""
    return next((w for w in wrappers(module) if isinstance(w, Attended)), None)


def inserted_modules(model: nn.Module) -> Iterator[tuple[str, str, Inserted]]:
    """Yield all insertions: path of the module, name of the child ("" if replaced), insertion."""
    for name, module in model.named_modules():
        if isinstance(module, Replacement):
            yield path_of(name), "", module
        elif isinstance(module, Attended):
            for child in module._modules:
                if isinstance(attention := module._modules[child], InsertedAttention):
                    yield path_of(name), child, attention


def detach(model: nn.Module, path: str, child: str) -> nn.Module:
    """Remove one insertion, and return the model."""
    module = outermost(model, path)
    if child and (place := attended(module)):
        place.release(child)
        if not place._paths:
            model = exchanged(model, place, place.host)
    else:
        old = innermost(module)
        like = next(old.parameters())
        original = old.replaced[0].to(like.device, like.dtype).train(old.training)
        model = exchanged(model, old, original)
    return without_idle_wrappers(model)


def removed(model: nn.Module, at: At | None) -> nn.Module:
    """Return a copy of the model without the insertions that ``at`` names; None: without any."""
    modules = {one.path: outermost(model, one.path) for one in described(model)}
    if not modules:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    chosen = list(modules) if at is None else match(at, modules.items())
    if not chosen:
        raise ValueError(f"nothing was inserted at {at!r}; but at {listing(modules, str(at))}")
    new = deepcopy(model)
    # Reversed, because what follows a replacement has to be removed before it.
    for path, child, _ in reversed([*inserted_modules(new)]):
        if path in chosen:
            new = detach(new, path, child)
    return new


def without_idle_wrappers(model: nn.Module) -> nn.Module:
    """Remove the wrappers that note sizes, or start counts, for no attention any more."""
    read = {id(one.sizes) for *_, one in inserted_modules(model) if hasattr(one, "sizes")}
    for module in [m for m in model.modules() if isinstance(m, Sized | Counted)]:
        if isinstance(module, Sized):
            idle = id(module.sizes) not in read
        else:
            place = attended(module.host.get_submodule(module._counts))
            idle = place is None or not place._runs
        if idle:
            model = exchanged(model, module, module.host)
    return model
