"""The base classes of all mechanisms: ``y = f(g(z), z)`` with ``z = prepare(x)``."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import ClassVar, Generic, ParamSpec, TypeVar, final

import torch
from torch import Tensor, nn

from .axes import Axes
from .card import Card
from .shapes import GRIDS, bind, single, split

Z = TypeVar("Z")  # the prepared input: a tensor, or a tuple of them
A = TypeVar("A")  # the map: a tensor, or a tuple of them
M = TypeVar("M", bound="Mechanism")
P = ParamSpec("P")
T = TypeVar("T")
Output = Tensor | tuple[Tensor, ...]

NO_VARIANCE = (
    "a norm gets one value for each channel and has no variance to divide by: use a batch of two "
    "or more, larger images, or eval()"
)


def names_itself(forward: Callable[P, T]) -> Callable[P, T]:
    """Let a forward method say whose norm it is that gets a single value for each channel.

    Only the norm knows when that is an error: it is none for a frozen norm, nor for one that is
    synchronized among processes. But torch's message names neither the mechanism nor a remedy.
    """

    @wraps(forward)
    def run(*given: P.args, **others: P.kwargs) -> T:
        try:
            return forward(*given, **others)
        except ValueError as e:
            if not str(e).startswith("Expected more than 1 ") and not str(e).endswith(NO_VARIANCE):
                raise
            raise ValueError(f"{type(given[0]).__name__}: {NO_VARIANCE}") from e

    return run


class Tap(nn.Identity):
    """Passes an attention map through: a forward hook on it can read or replace the map."""

    @property
    def watched(self) -> bool:
        """Whether a hook is registered, so that the map has to be computed."""
        return bool(self._forward_hooks)


class Mechanism(nn.Module, ABC):
    """A module of the catalog: it names its axes, checks its input and shows its arguments.

    Args:
        fixed_axes: Sizes that this instance requires of axes of the input, by their names in
            `axes`.

    Attributes:
        card: The facts about the class; a mechanism of your own needs none.
        axes: The named axes of the instance.
        fixed_axes: The sizes passed to the constructor.
        divisors: Numbers that must divide the sizes of axes of the input, by axis name.
        max_sizes: The largest size of an axis of the input, by the name of the axis.
        may_be_empty: Axes of the input that may have no entries; the first, the batch, always may.
        identity_at_init: Whether a new instance returns its input; `regard.insert` then adds no
            gate that starts at zero.
    """

    card: ClassVar[Card]
    axes: Axes = Axes()
    may_be_empty: tuple[str, ...] = ("n", "m")
    identity_at_init: bool = False
    _arguments: tuple[tuple[object, ...], dict[str, object]]

    def __init_subclass__(cls, **options: object) -> None:
        """State the signature: Python 3.10 reads that of `__new__` if `__init__` is inherited."""
        super().__init_subclass__(**options)
        init = inspect.signature(cls.__init__)
        cls.__signature__ = init.replace(parameters=list(init.parameters.values())[1:])
        if card := cls.__dict__.get("card"):
            cls.card = replace(card, axes=cls.axes)

    def __new__(cls: type[M], *args: object, **kwargs: object) -> M:
        """Store the arguments of the constructor, for `arguments` and ``repr``."""
        self = super().__new__(cls)
        self.__dict__["_arguments"] = (args, kwargs)
        return self

    def __init__(self, **fixed_axes: int) -> None:
        super().__init__()
        self.fixed_axes = fixed_axes
        self.divisors: dict[str, int] = {}
        self.max_sizes: dict[str, int] = {}
        if hasattr(self, "card"):
            self.identity_at_init = self.card.identity_at_init

    def reset_parameters(self) -> None:
        """Initialize all parameters as in the paper, or as torch does where it is silent."""
        _reset_children(self)

    def start_from(self, convolution: nn.Conv2d) -> None:
        """Take over the weights of a convolution that this mechanism is put in place of.

        By default there is no place for them, and the weights of the mechanism stay.
        """

    def check(self, *inputs: Tensor) -> None:
        """Raise `ValueError` or `TypeError` if an input does not match the axes of the instance."""
        if len(inputs) == 1 and self._fits(inputs[0]):
            return
        sizes = dict(self.fixed_axes)
        patterns = split(self.axes.input)
        for (name, pattern), x in zip(patterns.items(), inputs, strict=False):
            who = type(self).__name__ if len(patterns) == 1 else f"{type(self).__name__}: {name}"
            if isinstance(x, torch.fx.Proxy):  # a symbol of torch.fx has no sizes
                continue
            if not isinstance(x, Tensor):
                raise TypeError(f"{who}: expected a tensor ({pattern}), got {type(x).__name__}")
            if not x.is_floating_point():
                raise TypeError(f"{who}: expected a floating-point tensor, got {x.dtype}")
            try:
                found = bind(pattern, x.shape, **sizes)
            except ValueError as e:
                raise ValueError(f"{who}: {e}{self._advice(x)}") from None
            for axis, size in [*found.items()][1:]:
                if size == 0 and axis not in self.may_be_empty:
                    raise ValueError(
                        f"{who}: expected at least one entry on axis {axis} of ({pattern}), "
                        f"got {tuple(x.shape)}"
                    )
            sizes |= found
            for axis, largest in self.max_sizes.items():
                if axis in pattern.split() and sizes[axis] > largest:
                    raise ValueError(
                        f"{who}: expected at most {largest} on axis {axis} of ({pattern}), "
                        f"got {sizes[axis]}: {tuple(x.shape)}"
                    )
            for axis, divisor in self.divisors.items():
                if axis in pattern.split() and sizes[axis] % divisor:
                    raise ValueError(
                        f"{who}: expected a multiple of {divisor} on axis {axis} of ({pattern}), "
                        f"got {sizes[axis]}: {tuple(x.shape)}"
                    )

    def _advice(self, x: Tensor) -> str:
        """Name the option of the class that takes an input of another rank, if it has one."""
        option, dims = inspect.signature(type(self)).parameters.get("dims"), x.dim() - 2
        if option is None or dims not in GRIDS:
            return ""
        own = self.arguments.get("dims", option.default)
        return "" if dims == own else f"; dims={dims} takes them"

    def _fits(self, x: Tensor) -> bool:
        """Return whether a single input is valid, in a quarter of the time of the full check.

        This matters because a small gate runs in 50 µs. While a model is compiled, the full check
        runs: it runs once only, and a compiler cannot trace the cached `single`.
        """
        if torch.compiler.is_compiling() or not isinstance(x, Tensor) or not x.is_floating_point():
            return False
        names, sizes = single(self.axes.input, x.dim()), self.fixed_axes
        return (
            bool(names)
            and not self.divisors
            and not self.max_sizes
            and 0 not in x.shape
            and all(sizes.get(n, size) == size for n, size in zip(names, x.shape, strict=True))
        )

    @property
    def arguments(self) -> dict[str, object]:
        """The arguments passed to the constructor, by name."""
        args, kwargs = self._arguments
        return dict(inspect.signature(type(self)).bind_partial(*args, **kwargs).arguments)

    def extra_repr(self) -> str:
        """Show the arguments passed to the constructor."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())


def _reset_children(module: nn.Module) -> None:
    """Call ``reset_parameters`` of each child that has it; descend into those that do not."""
    for child in module.children():
        if callable(reset := getattr(child, "reset_parameters", None)):
            reset()
        else:
            _reset_children(child)


class Attention(Mechanism, Generic[Z, A]):
    """Attention as ``y = f(g(z), z)``: a subclass defines `attention` (g) and `combine` (f).

    ``z = prepare(x)`` is ``x`` itself, unless a subclass defines `prepare` because g and f both
    need something that should be computed once (the branches of a selective kernel). A subclass
    also defines `fused` where the output can be computed faster without the map; it is called as
    long as no hook is registered on the tap.

    >>> class Average(Attention):
    ...     def attention(self, z):
    ...         return z.mean((2, 3), keepdim=True).sigmoid()
    ...
    ...     def combine(self, a, z):
    ...         return a * z
    >>> Average()(torch.zeros(1, 3, 5, 5)).shape
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

    def prepare(self, x: Tensor, /) -> Z:
        """Compute once what `attention` and `combine` both need; by default ``x`` itself."""
        return x  # type: ignore[return-value]  # a subclass with another z overrides this

    def fused(self, z: Z, /) -> Output | None:
        """Compute the same output without the map; None where there is no faster way."""
        return None

    @final
    @names_itself
    def forward(self, x: Tensor) -> Output:
        """Check the input, then run the mechanism."""
        self.check(x)
        z = self.prepare(x)
        if not self.tap.watched and (y := self.fused(z)) is not None:
            return y
        return self.combine(self.tap(self.attention(z)), z)


class SequenceAttention(Mechanism, Generic[Z, A]):
    """Attention of queries to keys and values, ``b n d`` each, as ``y = f(g(z), z)``.

    ``mask`` is boolean (True = may attend) or a bias that is added to the scores, and is broadcast
    to the map, as in `torch.nn.functional.scaled_dot_product_attention`. A query that may attend
    to nothing gets zeros.
    """

    axes: Axes = Axes("query: b n d, key: b m d, value: b m d", output="b n d")

    def __init__(self, **fixed_axes: int) -> None:
        super().__init__(**fixed_axes)
        self.tap = Tap()

    @abstractmethod
    def attention(self, z: Z, /, mask: Tensor | None) -> A:
        """g: compute the attention map."""

    @abstractmethod
    def combine(self, a: A, z: Z, /) -> Tensor:
        """f: apply the map ``a`` to the values in ``z``."""

    def prepare(self, query: Tensor, key: Tensor, value: Tensor) -> Z:
        """Compute once what `attention` and `combine` both need; by default the three inputs."""
        return query, key, value  # type: ignore[return-value]

    def fused(self, z: Z, /, mask: Tensor | None) -> Tensor | None:
        """Compute the same output without the map; None where there is no faster way."""
        return None

    def check_mask(self, query: Tensor, key: Tensor, mask: Tensor | None) -> None:
        """Raise if a mask has a wrong type, or a shape that might fit the map by accident only."""
        if mask is None or isinstance(mask, torch.fx.Proxy):
            return
        axes = (self.axes.map or "b n m").split()
        who, want = type(self).__name__, f"({' '.join(axes)}) or ({' '.join(axes[-2:])})"
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(
                f"{who}: mask: expected bool (True = may attend) or a float bias, got {mask.dtype}"
            )
        if mask.dim() not in (2, len(axes)):
            raise ValueError(f"{who}: mask: expected {want}, got {tuple(mask.shape)}")
        sizes = {
            **self.fixed_axes,
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

    @final
    @names_itself
    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Check the inputs, then run the mechanism; keys default to the queries, values to keys."""
        key = query if key is None else key
        value = key if value is None else value
        self.check(query, key, value)
        self.check_mask(query, key, mask)
        return self.read(self.prepare(query, key, value), mask)

    @final
    def read(self, z: Z, mask: Tensor | None = None) -> Tensor:
        """Run the mechanism on prepared inputs, such as cached keys and values."""
        if not self.tap.watched and (y := self.fused(z, mask)) is not None:
            return y
        return self.combine(self.tap(self.attention(z, mask)), z)
