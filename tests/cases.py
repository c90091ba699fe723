"""Instances and inputs made from the cards, and what makes a function a law about them.

A law is a test of one case; a case is a mechanism with the arguments of an example, or of one of
its variants, as ``tests/claims/<key>.py`` has them. No law knows a mechanism by name: which cases
it speaks of follows from cards and claims, and an exception stands there with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from claims import Claims, Variant
from regard.catalog import entries
from regard.core.attention import Mechanism, SequenceAttention, Tap
from regard.core.axes import Axes
from regard.core.contracts import LevelsAttention, PoolAttention
from regard.core.shapes import expand, split

# Unequal primes: an axis taken for another shows.
SIZES = {"b": 2, "l": 13, "t": 3, "h": 11, "w": 7, "n": 11, "m": 13}
OTHER_PRIMES = (5, 17, 19, 23, 29, 31, 37, 41)
GRID = "lthw"
# So small that no softmax saturates: a map of zeros and ones has symmetries of its own.
SCALE = 0.5


# What takes a mask beside its inputs.
MASKED = (SequenceAttention, PoolAttention)
EXAMPLE = Variant()


@dataclass(frozen=True)
class Case:
    """A mechanism and the arguments that build one instance of it."""

    cls: type[Mechanism]
    claims: Claims
    variant: Variant = EXAMPLE
    key: str = "planted"

    def __str__(self) -> str:
        return "-".join([self.key, *(f"{name}={value}" for name, value in self.changed.items())])

    @property
    def changed(self) -> Mapping[str, Any]:
        """Arguments that differ from those of the example."""
        return self.variant.changed

    @property
    def options(self) -> dict[str, Any]:
        """All arguments."""
        return {**self.claims.example, **self.changed}

    def claimed(self, fact: str) -> Any:
        """A fact about this instance: the variant's own, or the one on the card."""
        own = getattr(self.variant, fact)
        return getattr(self.cls.card, fact) if own is None else own

    @property
    def starts_as_convolution(self) -> bool:
        """Whether it computes at first what the convolution did that it replaces."""
        own = self.variant.starts_as_convolution
        return self.claims.starts_as_convolution if own is None else own

    @property
    def zero_grad(self) -> dict[str, str]:
        """The parameters whose gradient is zero by mathematics, with the reason."""
        return _chosen(self.claims.zero_grad, self.variant.zero_grad)

    @property
    def skips(self) -> dict[str, str]:
        """The laws that the mathematics forbids, with the reason."""
        return _chosen(self.claims.skips, self.variant.skips)

    @cached_property
    def axes(self) -> Axes:
        """The axes of the instance; of the class, where no instance can be built."""
        try:
            return self.fresh().axes
        except Exception:  # the laws will say why
            return self.cls.axes

    def fresh(self, **factory: Any) -> Mechanism:
        """A new module, in evaluation mode."""
        return self.cls(**self.options, **factory).eval()

    def module(self, dtype: torch.dtype = torch.float64) -> Mechanism:
        """A module whose parameters are all random, so that no layer is silent."""
        return randomize(self.fresh()).to(dtype)


def _chosen(
    known: Mapping[str, str], chosen: tuple[str, ...] | Mapping[str, str] | None
) -> dict[str, str]:
    if isinstance(chosen, tuple):
        return {name: known[name] for name in chosen}
    return dict(known if chosen is None else chosen)


@cache
def mechanisms() -> dict[str, type[Mechanism]]:
    """Every mechanism by its key, and every part that is a public class of its own."""
    found = {}
    for key, entry in entries().items():
        for name in sorted(entry.classes, key=lambda name: name != entry.name):
            cls = getattr(regard, name)
            if issubclass(cls, Mechanism):
                found[key if name == entry.name else f"{key}.{name}"] = cls
    return found


@cache
def cases() -> tuple[Case, ...]:
    """The example and the variants of every mechanism; `test_cards` asks for claims of each."""
    return tuple(
        Case(cls, claims, variant, key)
        for key, cls in mechanisms().items()
        if (claims := claims_of(key.partition(".")[0]).get(cls.__name__))
        for variant in (EXAMPLE, *claims.variants)
    )


@cache
def claims_of(key: str) -> dict[str, Claims]:
    """The claims about the classes of a mechanism, by their names."""
    return import_module(f"claims.{key}").CLAIMS


@dataclass(frozen=True)
class Law:
    """A law: its test, the cases it speaks of, and how many mechanisms must be among them."""

    name: str
    test: Callable[[Case], None]
    of: Callable[[Case], Any]
    once: bool
    least: int

    def cases(self, key: str | None = None) -> list[Case]:
        """The cases of a mechanism, or of all, that the law speaks of."""
        return [
            case
            for case in cases()
            if key in (None, case.key)
            and not (self.once and case.changed)
            and self.name not in case.skips
            and _true(self.of, case)
        ]

    def hold(self, chosen: list[Case]) -> None:
        """Try the cases, each from the same random state; what fails names its case."""
        for case in chosen:
            torch.manual_seed(0)
            try:
                self.test(case)
            except (Exception, pytest.fail.Exception) as e:
                raise AssertionError(f"{self.name}: {case}: {e}") from e


LAWS: dict[str, Law] = {}


def law(
    of: Callable[[Case], Any] = lambda case: True,
    *,
    once: bool = False,
    costly: bool = False,
    slow: bool = False,
    least: int = 2,
) -> Callable[[Callable[[Case], None]], Callable[..., None]]:
    """Make a test of one case a law: a test of each mechanism, over all its cases.

    Args:
        of: Which cases the law speaks of; by default all.
        once: The law is about the class, so the example alone is tried.
        costly: A case takes about a second, so the variants are left to the slow suite.
        slow: Every case is left to the slow suite.
        least: How many mechanisms must exercise the law, for it to mean anything.
    """

    def enact(test: Callable[[Case], None]) -> Callable[..., None]:
        name = test.__name__.removeprefix("test_")
        made = LAWS[name] = Law(name, test, of, once, least)
        marks = [pytest.mark.slow] if slow else []
        items = [pytest.param(key, "all", id=key, marks=marks) for key in mechanisms()]
        if costly:
            items = [pytest.param(key, "example", id=key) for key in mechanisms()] + [
                pytest.param(key, "variants", id=f"{key}-variants", marks=pytest.mark.slow)
                for key, classes in mechanisms().items()
                if claims_of(key.partition(".")[0])[classes.__name__].variants
            ]

        @pytest.mark.parametrize(("key", "which"), items)
        def each(key: str, which: str) -> None:
            chosen = {"all": (True, False), "example": (False,), "variants": (True,)}[which]
            made.hold([case for case in made.cases(key) if bool(case.changed) in chosen])

        each.__name__, each.__doc__ = test.__name__, test.__doc__
        each.__module__, each.__qualname__ = test.__module__, test.__qualname__
        return each

    return enact


def _true(of: Callable[[Case], Any], case: Case) -> bool:
    try:
        return bool(of(case))
    except Exception:  # no instance can be built: the law itself will say why
        return True


def has_form(case: Case) -> bool:
    """Whether the mechanism is written as g and f; a whole network is not."""
    return all(callable(getattr(case.cls, name, None)) for name in ("attention", "combine"))


def any_grid(case: Case) -> bool:
    """Whether one instance takes any number of axes of space and time."""
    return "*" in case.axes.input or "..." in case.axes.input


def randomize(module: nn.Module) -> Any:
    """Draw every parameter and buffer anew; a variance stays above zero."""
    with torch.no_grad():
        for name, t in module.state_dict(keep_vars=True).items():
            if name.endswith("running_var"):
                t.uniform_(0.5, 1.5)
            elif t.is_floating_point():
                t.normal_(std=0.3)
    return module


def patterns(module: Mechanism, dims: int = 2) -> list[str]:
    """The axes of each input, ``*`` written out."""
    found = of_levels(module, list(split(module.axes.input).values()))
    free = ("*", "...")
    return [expand(p, len(p.split()) - 1 + dims) if {*free} & {*p.split()} else p for p in found]


def of_levels(module: Mechanism, found: list[str]) -> list[str]:
    """The axes of three levels, where a mechanism states those of any."""
    if not isinstance(module, LevelsAttention):
        return found
    return [pattern.replace(" h w", f" h{i} w{i}") for pattern in found for i in ("", 1, 2)]


def shapes(module: Mechanism, *, dims: int = 2, **sizes: int) -> list[tuple[int, ...]]:
    """Shapes of the inputs as the axes describe them; sizes that they leave open are primes."""
    known = SIZES | sizes | module.fixed_axes
    if isinstance(module, LevelsAttention):  # each is half as large as the one before
        for axis, before in (("h1", "h"), ("h2", "h1"), ("w1", "w"), ("w2", "w1")):
            known[axis] = -(-known[before] // 2)
    spare = iter(OTHER_PRIMES)
    found = []
    for pattern in patterns(module, dims):
        shape = []
        for axis in pattern.split():
            if axis not in known and not axis.isdigit():
                known[axis] = next(spare)
            if axis.isdigit():
                shape.append(int(axis))
                continue
            part = module.divisors.get(axis, 1)
            size = -(-known[axis] // part) * part
            shape.append(min(size, module.max_sizes.get(axis, size)))
        found.append(tuple(shape))
    return found


def draw(
    module: Mechanism,
    *,
    dims: int = 2,
    dtype: torch.dtype = torch.float64,
    seed: int = 1,
    **sizes: int,
) -> tuple[Tensor, ...]:
    """Random inputs of these shapes."""
    random = torch.Generator().manual_seed(seed)
    drawn = (
        torch.randn(shape, generator=random, dtype=torch.float64)
        for shape in shapes(module, dims=dims, **sizes)
    )
    return tuple((SCALE * x).to(dtype) for x in drawn)


def open_axes(module: Mechanism) -> set[str]:
    """The axes, besides the batch, whose size the instance leaves open."""
    # The sizes of further levels follow from those of the first.
    free = patterns(module)[:1] if isinstance(module, LevelsAttention) else patterns(module)
    axes = {axis for p in free for axis in p.split() if not axis.isdigit()}
    return axes - {"b"} - set(module.fixed_axes)


def bound(module: Mechanism, inputs: tuple[Tensor, ...]) -> dict[str, int]:
    """The sizes that the inputs give to the letters of the card; n counts the positions."""
    sizes = dict(module.fixed_axes)
    for pattern, x in zip(patterns(module, inputs[0].dim() - 2), inputs, strict=True):
        sizes |= {a: n for a, n in zip(pattern.split(), x.shape, strict=True) if not a.isdigit()}
    grid = [sizes[axis] for axis in GRID if axis in sizes]
    if grid and "n" not in sizes:
        sizes["n"] = torch.Size(grid).numel()
    if isinstance(module, LevelsAttention):
        sizes["s"] = len(inputs)
    return sizes


def map_of(module: Any, inputs: tuple[Tensor, ...], **masks: Tensor | None) -> Any:
    """The map, asked of g itself."""
    return by_parts(module, inputs, **masks)[0]


def by_parts(module: Any, inputs: tuple[Tensor, ...], **masks: Tensor | None) -> tuple[Any, Any]:
    """The map and the output, computed by hand from e, g and f."""
    z = module.prepare(*inputs)
    if isinstance(module, MASKED):
        a = module.attention(z, masks.get("mask"))
    else:
        a = module.attention(z)
    return a, module.combine(a, z)


@contextmanager
def watched(module: nn.Module) -> Iterator[dict[str, Any]]:
    """Hook every tap; what passes is found under the tap's name, in order of passing."""
    seen: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda tap, args, a: seen.__setitem__(name, a)

    taps = [(name, tap) for name, tap in module.named_modules() if isinstance(tap, Tap)]
    hooks = [tap.register_forward_hook(keep(name)) for name, tap in taps]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
