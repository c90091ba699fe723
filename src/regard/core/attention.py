"""The form that every mechanism has: ``y = f(g(z), z)`` with ``z = e(x)``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from .card import Card
from .reference import Source, fill
from .shapes import bind, single, split


class Tap(nn.Identity):
    """A place where an attention map passes: a forward hook on it reads or replaces the map."""

    @property
    def watched(self) -> bool:
        """Whether a hook waits for the map, so that it has to be built."""
        return bool(self._forward_hooks)


class Mechanism(nn.Module, ABC):
    """What the catalogue holds: a module with a card, that can be loaded from a reference.

    ``card`` belongs to the class; an instance whose options change a fact (the axes of its map,
    say) carries its own, made with `dataclasses.replace`.

    ``multiples`` says, by an axis' letter in the card, what must divide the axis.

    Args:
        sizes: Axes of the input that this instance fixes, by their letter in the card.
    """

    card: Card

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.multiples: dict[str, int] = {}

    def reset_parameters(self) -> None:
        """Draw new parameters as the paper does; torch's own defaults where it says nothing."""
        _reset_below(self)

    def check(self, *inputs: Any) -> None:
        """Refuse inputs whose rank, sizes or type cannot be meant."""
        if len(inputs) == 1 and self._fits(inputs[0]):
            return
        sizes = dict(self.sizes)
        patterns = split(self.card.input)
        for (name, pattern), x in zip(patterns.items(), inputs, strict=False):
            who = type(self).__name__ if len(patterns) == 1 else f"{type(self).__name__}: {name}"
            if isinstance(x, torch.fx.Proxy):  # a symbol: it has no sizes to look at
                continue
            if not isinstance(x, Tensor):
                raise TypeError(f"{who}: expected a tensor ({pattern}), got {type(x).__name__}")
            if not x.is_floating_point():
                raise TypeError(f"{who}: expected a floating-point tensor, got {x.dtype}")
            try:
                sizes |= bind(pattern, x.shape, **sizes)
            except ValueError as e:
                raise ValueError(f"{who}: {e}") from None
            for axis, part in self.multiples.items():
                if axis in pattern.split() and sizes[axis] % part:
                    raise ValueError(
                        f"{who}: expected a multiple of {part} on axis {axis} of ({pattern}), "
                        f"got {sizes[axis]}: {tuple(x.shape)}"
                    )

    def _fits(self, x: Any) -> bool:
        """Whether one input is in order, in a quarter of the time that it takes to say what is not.

        A small gate is over in 50 µs. What is compiled is checked once, and cannot look up a cache.
        """
        if torch.compiler.is_compiling() or not isinstance(x, Tensor) or not x.is_floating_point():
            return False
        names, sizes = single(self.card.input, x.dim()), self.sizes
        return (
            bool(names)
            and not self.multiples
            and all(sizes.get(n, size) == size for n, size in zip(names, x.shape, strict=True))
        )

    @final
    @classmethod
    def from_reference(
        cls, source: str, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> nn.Module:
        """Build the module from the arguments and the state dict of another implementation.

        Args:
            source: ``owner/repo`` or package of that implementation, with ``:Class`` where it has
                several; the card's ``references`` lists what is known.
            kwargs: The arguments that its constructor got.
            state: Its state dict. Every entry must find its place; the module takes its dtype.

        Raises:
            ValueError: the source is unknown, or the state does not fit.
        """
        known = Source.parse(source)
        if refusal := cls.refusal(source):
            there = [n for n in cls.card.references if n.startswith(f"{known.repo}:")]
            if there and not known.name:
                raise ValueError(f"{cls.__name__}: name the class: {' or '.join(there)}")
            raise ValueError(f"{cls.__name__}: {refusal[0]} is another mechanism: {refusal[1]}")
        if not any(known.matches(name) for name in cls.card.references):
            names = ", ".join(cls.card.references) or "none"
            raise ValueError(f"{cls.__name__}: no reference {source!r}; known: {names}")
        try:
            return fill(*cls.translate(known, kwargs, state))
        except KeyError as e:
            raise ValueError(f"{cls.__name__}: {known.repo} needs the entry {e}") from None

    @final
    @classmethod
    def refusal(cls, source: str) -> tuple[str, str] | None:
        """Which of the sources that the card refuses this is, and why; None if it is none."""
        known = Source.parse(source)
        return next((why for why in cls.card.refuses.items() if known.matches(why[0])), None)

    @classmethod
    @abstractmethod
    def translate(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[nn.Module, Mapping[str, Tensor]]:
        """Say how a reference is written here: our module, and its state under our names."""

    def extra_repr(self) -> str:
        """Show the arguments that the module remembers."""
        given = inspect.signature(type(self)).parameters
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in given if _plain(self, name))


def _reset_below(module: nn.Module) -> None:
    """Have each part draw its own parameters: what a part resets, it resets as it wants."""
    for child in module.children():
        if callable(reset := getattr(child, "reset_parameters", None)):
            reset()
        else:
            _reset_below(child)


def _plain(module: nn.Module, name: str) -> bool:
    return isinstance(module.__dict__.get(name), (int, float, str, tuple, bool))


class Attention(Mechanism):
    """Attention as ``y = f(g(z), z)``; a mechanism writes `attention` (g) and `combine` (f).

    ``z = e(x)`` is ``x`` itself unless the mechanism writes `embed`, because both g and f read
    something that must be computed once (the branches of a selective kernel). Where the output can
    be had without the map, `fused` gives it, and is used while nobody watches the tap.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, x: Any) -> Any:
        """g: the attention map."""

    @abstractmethod
    def combine(self, a: Any, x: Any) -> Any:
        """f: ``x`` seen through the map ``a``."""

    def embed(self, x: Tensor) -> Any:
        """e: what g and f both read."""
        return x

    def fused(self, x: Any) -> Any:
        """The same output without the map, where a faster way exists; else None."""
        return None

    @final
    def forward(self, x: Tensor) -> Any:
        """Run the mechanism."""
        self.check(x)
        z = self.embed(x)
        if not self.tap.watched and (y := self.fused(z)) is not None:
            return y
        return self.combine(self.tap(self.attention(z)), z)


class SequenceAttention(Mechanism):
    """The same form for queries that read keys and values, ``b n d`` each.

    ``mask`` is boolean (True = may attend) or a bias that is added to the scores, and is broadcast
    to the map, as in `torch.nn.functional.scaled_dot_product_attention`. A query that may attend
    to nothing gets zeros. ``weights`` multiply the scores before the mask.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, x: Any, mask: Tensor | None, weights: Tensor | None) -> Any:
        """g: the attention map."""

    @abstractmethod
    def combine(self, a: Any, x: Any) -> Tensor:
        """f: the values seen through the map ``a``."""

    def check_mask(self, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """Refuse a mask of another type, or one that could be broadcast to the map by accident."""
        if mask is None or isinstance(mask, torch.fx.Proxy):
            return
        axes = self.card.map.split()
        who, want = type(self).__name__, f"({self.card.map}) or ({' '.join(axes[-2:])})"
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(
                f"{who}: mask: expected bool (True = may attend) or a float bias, got {mask.dtype}"
            )
        if mask.dim() not in (2, len(axes)):
            raise ValueError(f"{who}: mask: expected {want}, got {tuple(mask.shape)}")
        sizes = {
            **self.sizes,
            "b": query.shape[0],
            axes[-2]: query.shape[1],
            axes[-1]: key.shape[1],
        }
        for name, size in zip(axes[-mask.dim() :], mask.shape, strict=True):
            if size not in (1, sizes[name]):
                raise ValueError(
                    f"{who}: mask: expected axis {name} = {sizes[name]} or 1 in {want}, "
                    f"got {size}: {tuple(mask.shape)}"
                )

    def embed(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        """e: what g and f both read."""
        return query, key, value

    def fused(self, x: Any, mask: Tensor | None, weights: Tensor | None) -> Tensor | None:
        """The same output without the map, where a faster way exists; else None."""
        return None

    @final
    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Run the mechanism; keys default to the queries, values to the keys."""
        key = query if key is None else key
        value = key if value is None else value
        self.check(query, key, value)
        self.check_mask(query, key, mask)
        return self.read(self.embed(query, key, value), mask, weights)

    @final
    def read(self, z: Any, mask: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """What `forward` does behind `embed`, for keys and values that were kept."""
        if not self.tap.watched and (y := self.fused(z, mask, weights)) is not None:
            return y
        return self.combine(self.tap(self.attention(z, mask, weights)), z)
