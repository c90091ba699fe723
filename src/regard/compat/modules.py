"""Old classes in torch: each is a mechanism, made, called and loaded as it used to be."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

from torch import Tensor

import regard

from ..core.attention import Attention, Mechanism
from .old import Old
from .settings import settings
from .table import SOURCE


class Carried(Mechanism):
    """What every old class has: its arguments, and the names in its state dict."""

    old: ClassVar[Old]
    new: ClassVar[type[Mechanism]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        known = tuple(inspect.signature(self.new).parameters)
        given, options = self.old.call_of(args, kwargs, known, as_before=settings.as_before)
        settings.tell(self.new, self.old.tell("torch", options))
        super().__init__(**options)
        self.given = given
        self.settle()

    def settle(self) -> None:
        """What is left to do once the mechanism is made."""

    def extra_repr(self) -> str:
        """Show the arguments as they were given."""
        return ", ".join(f"{name}={value!r}" for name, value in self.given.items())

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load what was saved under the old names as well as what is saved now."""
        own = {name: t.shape for name, t in self.state_dict().items()}
        found = {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}
        shapes = {name: t.shape for name, t in found.items()}
        if not own.items() <= shapes.items() and not shapes.items() <= own.items():
            there = self.new.from_reference(f"{SOURCE}:{self.old.name}", self.given, found)
            renamed = there.state_dict()
            if renamed.keys() != own.keys():
                raise ValueError(
                    f"{self.old.name}: these weights are of the old class, which {self.old.was}; "
                    f"make it with {self.old.as_it_was}, or install with as_before=True"
                )
            for name in found:
                del state[prefix + name]
            state |= {prefix + name: t for name, t in renamed.items()}
        super()._load_from_state_dict(state, prefix, *rest)


class Queries:
    """Called with queries, keys and values, and with a mask that is True where it is closed."""

    def forward(
        self,
        queries: Tensor,
        keys: Tensor | None = None,
        values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_weights: Tensor | None = None,
    ) -> Tensor:
        """Run the mechanism."""
        mask = None if attention_mask is None else attention_mask.logical_not()
        return super().forward(queries, keys, values, mask, attention_weights)  # type: ignore[misc]


class Annealed:
    """Made colder step by step, by a method whose name was misspelt."""

    temperature: float

    def update_temprature(self) -> None:
        """Lower the temperature by one, as long as it is above one."""
        if self.temperature > 1:
            self.temperature -= 1


class Turned(Attention):
    """Called with an image of another layout, which is turned at the border."""

    given: dict[str, Any]

    def inward(self, x: Tensor) -> Tensor:
        """The image as the mechanism wants it."""
        raise NotImplementedError

    def outward(self, y: Tensor) -> Tensor:
        """The output as the script wants it."""
        raise NotImplementedError

    def prepare(self, x: Tensor) -> Any:
        return super().prepare(self.inward(x))

    def combine(self, a: Any, x: Any) -> Tensor:
        return self.outward(super().combine(a, x))

    def fused(self, x: Any) -> Tensor | None:
        y = super().fused(x)
        return None if y is None else self.outward(y)


class ImageTokens(Turned):
    """Called with the tokens ``b n c`` of an image whose height and width are arguments."""

    def settle(self) -> None:
        """Say on the axes what is wanted."""
        self.axes = replace(self.axes, input="b n c", output="b n c")
        self.fixed_axes |= {"n": self.given["H"] * self.given["W"]}

    def inward(self, x: Tensor) -> Tensor:
        return x.mT.unflatten(2, (self.given["H"], self.given["W"]))

    def outward(self, y: Tensor) -> Tensor:
        return y.flatten(2).mT

    def forward(  # type: ignore[override]
        self,
        queries: Tensor,
        keys: Tensor | None = None,
        values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_weights: Tensor | None = None,
    ) -> Tensor:
        """Run the mechanism."""
        if any(x is not None and x is not queries for x in (keys, values)):
            raise ValueError(f"{type(self).__name__}: keys and values must be the queries")
        if attention_mask is not None or attention_weights is not None:
            raise ValueError(f"{type(self).__name__}: takes neither a mask nor weights")
        return super().forward(queries)


class DimIndex(Turned):
    """Called with an image whose channels are on the axis that an argument tells."""

    @property
    def axis(self) -> int:
        """Where the channels are."""
        return self.given["dim_index"]

    def settle(self) -> None:
        """Say on the axes what is wanted."""
        axes = self.axes.input.split()
        axes.insert(self.axis % len(axes), axes.pop(1))
        self.axes = replace(self.axes, input=" ".join(axes), output=" ".join(axes))

    def inward(self, x: Tensor) -> Tensor:
        return x.movedim(self.axis, 1)

    def outward(self, y: Tensor) -> Tensor:
        return y.movedim(1, self.axis)


class ChannelsLast(DimIndex):
    """Called with an image whose channels are last."""

    @property
    def axis(self) -> int:
        """The last."""
        return -1


CALLS = {call.__name__: call for call in (Queries, Annealed, ImageTokens, DimIndex, ChannelsLast)}


@cache
def carried(old: Old) -> type[Carried]:
    """The class that takes the place of an old one."""
    new = getattr(regard, old.new)
    calls = (CALLS[old.call],) if old.call else ()
    body = {
        "old": old,
        "new": new,
        "__module__": old.module,
        "__doc__": new.__doc__,
        "__signature__": inspect.signature(old.arguments),
    }
    return type(old.name, (*calls, Carried, new), body)
