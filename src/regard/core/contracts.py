"""Base classes of attention that does not take one feature and return one of the same shape."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Generic, final

import torch
from torch import Tensor

from .attention import A, Mechanism, Output, Tap, Z, names_itself
from .axes import Axes


class PairAttention(Mechanism, Generic[Z, A]):
    """Attention over a feature that a second input guides, as ``y = f(g(z), z)``.

    The axes name both inputs, as in ``"x: b c *, guide: b k *"``: axes of the same name have the
    same size in both.

    >>> class Guided(PairAttention):
    ...     axes = Axes("x: b c h w, guide: b c h w", "b c h w", output="b c h w")
    ...
    ...     def attention(self, z):
    ...         return z[1].sigmoid()
    ...
    ...     def combine(self, a, z):
    ...         return a * z[0]
    >>> Guided()(torch.zeros(1, 3, 5, 5), torch.zeros(1, 3, 5, 5)).shape
    torch.Size([1, 3, 5, 5])
    """

    def __init__(self, **fixed_axes: int) -> None:
        super().__init__(**fixed_axes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, z: Z, /) -> A:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: A, z: Z, /) -> Output:
        """f: apply the map ``a`` to ``z``."""

    def prepare(self, x: Tensor, guide: Tensor, /) -> Z:
        """Compute once what `attention` and `combine` both need; by default the two inputs."""
        return x, guide  # type: ignore[return-value]  # a subclass with another z overrides this

    def fused(self, z: Z, /) -> Output | None:
        """Compute the same output without the map; None where there is no faster way."""
        return None

    @final
    @names_itself
    def forward(self, x: Tensor, guide: Tensor) -> Output:
        """Check the inputs, then run the mechanism."""
        self.check(x, guide)
        z = self.prepare(x, guide)
        if not self.tap.watched and (y := self.fused(z)) is not None:
            return y
        return self.combine(self.tap(self.attention(z)), z)


class PoolAttention(Mechanism, Generic[Z, A]):
    """Pools a bag of instances ``b n d`` into one feature ``b d``, as ``y = f(g(z), z)``.

    ``mask`` ``b n`` is boolean: True for the instances that count, so that bags of several sizes
    fit into one batch. A bag of which nothing counts gives zeros.
    """

    axes: Axes = Axes("b n d", "b n", output="b d", range="softmax")

    def __init__(self, **fixed_axes: int) -> None:
        super().__init__(**fixed_axes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, z: Z, /, mask: Tensor | None) -> A:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: A, z: Z, /) -> Tensor:
        """f: apply the map ``a`` to the instances in ``z``."""

    def prepare(self, x: Tensor, /) -> Z:
        """Compute once what `attention` and `combine` both need; by default ``x`` itself."""
        return x  # type: ignore[return-value]  # a subclass with another z overrides this

    def fused(self, z: Z, /, mask: Tensor | None) -> Tensor | None:
        """Compute the same output without the map; None where there is no faster way."""
        return None

    def check_mask(self, x: Tensor, mask: Tensor | None) -> None:
        """Raise if a mask is not boolean, or not ``b n``."""
        if mask is None or isinstance(mask, torch.fx.Proxy):
            return
        who = type(self).__name__
        if not isinstance(mask, Tensor):
            raise TypeError(f"{who}: mask: expected a tensor (b n), got {type(mask).__name__}")
        if mask.dtype != torch.bool:
            raise TypeError(f"{who}: mask: expected bool (True = counts), got {mask.dtype}")
        if mask.shape != x.shape[:2]:
            raise ValueError(
                f"{who}: mask: expected (b n) = {tuple(x.shape[:2])}, got {tuple(mask.shape)}"
            )

    @final
    @names_itself
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Check the inputs, then run the mechanism."""
        self.check(x)
        self.check_mask(x, mask)
        z = self.prepare(x)
        if not self.tap.watched and (y := self.fused(z, mask)) is not None:
            return y
        return self.combine(self.tap(self.attention(z, mask)), z)


class LevelsAttention(Mechanism, Generic[Z, A]):
    """Attention over a pyramid of features, the finest first, as ``y = f(g(z), z)``.

    The axes are those of each level; batch and channels are the same in all of them. The levels
    come as one list, or one after the other, which is how compilers and exporters name them.

    >>> class Halves(LevelsAttention):
    ...     def attention(self, z):
    ...         return z[0].new_full((len(z[0]), len(z)), 0.5)
    ...
    ...     def combine(self, a, z):
    ...         return [a[:, i, None, None, None] * x for i, x in enumerate(z)]
    >>> [tuple(y.shape) for y in Halves()([torch.zeros(1, 3, 8, 6), torch.zeros(1, 3, 4, 3)])]
    [(1, 3, 8, 6), (1, 3, 4, 3)]
    """

    def __init__(self, **fixed_axes: int) -> None:
        super().__init__(**fixed_axes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, z: Z, /) -> A:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: A, z: Z, /) -> list[Tensor]:
        """f: apply the map ``a`` to the levels in ``z``."""

    def prepare(self, *levels: Tensor) -> Z:
        """Compute once what `attention` and `combine` both need; by default the levels."""
        return levels  # type: ignore[return-value]  # a subclass with another z overrides this

    def fused(self, z: Z, /) -> list[Tensor] | None:
        """Compute the same output without the map; None where there is no faster way."""
        return None

    def check_levels(self, levels: Sequence[Tensor]) -> None:
        """Raise `ValueError` or `TypeError` if a level does not fit the axes, or the first one."""
        who = type(self).__name__
        if not levels:
            raise ValueError(f"{who}: expected one level or more, got none")
        for i, x in enumerate(levels):
            self.check(x)
            if x.shape[:2] != levels[0].shape[:2]:
                raise ValueError(
                    f"{who}: expected batch and channels {tuple(levels[0].shape[:2])} in all "
                    f"levels, got {tuple(x.shape)} in level {i}"
                )

    @final
    @names_itself
    def forward(self, *levels: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Check the levels, then run the mechanism."""
        one = len(levels) == 1 and isinstance(levels[0], (list, tuple))
        given: Sequence[Tensor] = levels[0] if one else levels  # type: ignore[assignment]
        if not any(isinstance(x, torch.fx.Proxy) for x in given):
            self.check_levels(given)
        z = self.prepare(*given)
        if not self.tap.watched and (y := self.fused(z)) is not None:
            return y
        return self.combine(self.tap(self.attention(z)), z)
