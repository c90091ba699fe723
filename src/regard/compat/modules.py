"""Old classes for torch, as mechanisms with the old arguments, calls and state dicts."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import regard

from .. import references
from ..core.attention import Attention, Mechanism
from .legacy import SOURCE, LegacyClass
from .settings import settings


class LegacyModule(Mechanism):
    """Base class of all old classes: their arguments, methods and names in the state dict."""

    old: ClassVar[LegacyClass]
    new: ClassVar[type[Mechanism]]
    given: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        known = tuple(inspect.signature(self.new).parameters)
        given, options = self.old.bind_call(
            args, kwargs, known, legacy_behavior=settings.legacy_behavior
        )
        settings.warn(self.new, self.old.warning("torch", options))
        super().__init__(**options)
        self.given = given
        self.adjust()

    def adjust(self) -> None:
        """Change the mechanism after construction."""

    def init_weights(self) -> None:
        """Initialize all parameters as the old classes did."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.001)
            elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.reset_parameters()
            if isinstance(getattr(module, "bias", None), nn.Parameter):
                nn.init.zeros_(module.bias)

    def __getattr__(self, name: str) -> Any:
        """Return an argument, or a layer by its old name, for an attribute that is not found.

        Raises:
            AttributeError: the old class had no such attribute either.
        """
        try:
            return super().__getattr__(name)
        except AttributeError:
            given = self.__dict__.get("given", {})
            if name in given:
                return given[name]
            ours = self.old.record.names.get(name)
            if not isinstance(ours, str):
                raise
            return self.get_submodule(ours)

    def extra_repr(self) -> str:
        """Show the arguments of the old class, including defaults."""
        return ", ".join(f"{name}={value!r}" for name, value in self.given.items())

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state dict with the old names or the new ones."""
        own = {name: t.shape for name, t in self.state_dict().items()}
        found = {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}
        shapes = {name: t.shape for name, t in found.items()}
        if not own.items() <= shapes.items() and not shapes.items() <= own.items():
            source = f"{SOURCE}:{self.old.record.name}"
            loaded, *_ = references.load(self.new, source, self.given, found)
            renamed = loaded.state_dict()
            if renamed.keys() != own.keys():
                raise ValueError(
                    f"{self.old.name}: these weights are of the old class, which "
                    f"{self.old.differs()}; create it with {self.old.before}, or install with "
                    "legacy_behavior=True"
                )
            for name in found:
                del state[prefix + name]
            state |= {prefix + name: t for name, t in renamed.items()}
        super()._load_from_state_dict(state, prefix, *rest)


class Queries:
    """Called with queries, keys, values, and a mask that is True where attention is forbidden."""

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
        if attention_weights is not None:
            mask = weighted(self, queries, keys, values, mask, attention_weights)
        return super().forward(queries, keys, values, mask)  # type: ignore[misc]


def weighted(
    module: Any,
    queries: Tensor,
    keys: Tensor | None,
    values: Tensor | None,
    mask: Tensor | None,
    weights: Tensor,
) -> Tensor:
    """Return a bias with the effect of a mask and of weights w that multiply the scores s.

    The bias follows from s w = s + s (w - 1).
    """
    keys = queries if keys is None else keys
    q, k, *_ = module.prepare(queries, keys, keys if values is None else values)
    bias = (q * module.scale) @ k.mT * (weights - 1)
    return bias if mask is None else bias.masked_fill(~mask, -torch.inf)


class Gate(Attention):
    """Returns the gate only, which the script applies."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Compute the map."""
        self.check(x)
        return self.tap(self.attention(self.prepare(x)))


class Annealed:
    """Has a method that lowers the temperature, whose old name was misspelled."""

    temperature: float

    def update_temprature(self) -> None:
        """Lower the temperature by one, as long as it is above one."""
        if self.temperature > 1:
            self.temperature -= 1


class Relayout(Attention):
    """Called with another layout of the image, which is converted at input and output."""

    given: dict[str, Any]

    def inward(self, x: Tensor) -> Tensor:
        """Convert the input to the layout of the mechanism."""
        raise NotImplementedError

    def outward(self, y: Tensor) -> Tensor:
        """Convert the output to the layout of the old class."""
        raise NotImplementedError

    def prepare(self, x: Tensor) -> Any:
        return super().prepare(self.inward(x))

    def combine(self, a: Any, z: Any) -> Tensor:
        return self.outward(super().combine(a, z))  # type: ignore[safe-super]

    def fused(self, z: Any) -> Tensor | None:
        y = super().fused(z)
        return None if y is None else self.outward(y)  # type: ignore[arg-type]


class ImageTokens(Relayout):
    """Called with the tokens ``b n c`` of an image whose height and width are arguments."""

    def adjust(self) -> None:
        """Name the axes of the tokens."""
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
            raise ValueError(
                f"{type(self).__name__}: keys and values must be the queries, since "
                f"{self.new.__name__} reads one image; for other keys there is regard.MultiHead"
            )
        if attention_mask is not None or attention_weights is not None:
            raise ValueError(f"{type(self).__name__}: takes neither a mask nor weights")
        return super().forward(queries)  # type: ignore[return-value]


class DimIndex(Relayout):
    """Called with an image whose channel axis is an argument."""

    @property
    def axis(self) -> int:
        """The channel axis."""
        return self.given["dim_index"]

    def adjust(self) -> None:
        """Reorder the named axes."""
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
        """The last axis."""
        return -1


CALLS = {
    call.__name__: call for call in (Queries, Gate, Annealed, ImageTokens, DimIndex, ChannelsLast)
}


@cache
def legacy_module(old: LegacyClass) -> type[LegacyModule]:
    """Create the class that replaces an old one."""
    new = getattr(regard, old.new)
    calls = (CALLS[old.legacy.call],) if old.legacy.call else ()
    body = {
        "old": old,
        "new": new,
        "__module__": old.module,
        "__doc__": new.__doc__,
        "__signature__": old.record.signature(),
    }
    return type(old.name, (*calls, LegacyModule, new), body)
