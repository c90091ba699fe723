"""Old classes in torch: each is a mechanism, made, called and loaded as it used to be."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, ClassVar

from torch import Tensor

import regard

from ..core.attention import Mechanism
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


class ImageTokens:
    """Called with the tokens ``b n c`` of an image whose height and width are arguments."""

    given: dict[str, Any]

    def forward(
        self,
        queries: Tensor,
        keys: Tensor | None = None,
        values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        attention_weights: Tensor | None = None,
    ) -> Tensor:
        """Run the mechanism."""
        who, h, w = type(self).__name__, self.given["H"], self.given["W"]
        if any(x is not None and x is not queries for x in (keys, values)):
            raise ValueError(f"{who}: keys and values must be the queries")
        if attention_mask is not None or attention_weights is not None:
            raise ValueError(f"{who}: takes neither a mask nor weights")
        if queries.dim() != 3 or queries.shape[1] != h * w:
            raise ValueError(
                f"{who}: expected (b {h * w} c) for H, W = {(h, w)}, got {tuple(queries.shape)}"
            )
        image = queries.mT.unflatten(2, (h, w))
        return super().forward(image).flatten(2).mT  # type: ignore[misc]


class ChannelsLast:
    """Called with an image whose channels are last."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the mechanism."""
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)  # type: ignore[misc]


class DimIndex:
    """Called with an image whose channels are on the axis that an argument tells."""

    given: dict[str, Any]

    def forward(self, x: Tensor) -> Tensor:
        """Run the mechanism."""
        axis = self.given["dim_index"]
        return super().forward(x.movedim(axis, 1)).movedim(1, axis)  # type: ignore[misc]


CALLS = {call.__name__: call for call in (Queries, ImageTokens, ChannelsLast, DimIndex)}


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
