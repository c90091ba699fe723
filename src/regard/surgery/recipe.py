"""The insertions of a model as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..core.attention import Mechanism
from ..core.text import aligned
from ..core.watching import path_of
from ..factory import create
from ..factory import mechanism as find_class
from .grids import Note, Side, Sized, Sizes, Source
from .layout import Layout
from .outputs import Path
from .site import (
    InsertedAttention,
    Insertion,
    Replacement,
    attach,
    attended,
    described,
    exchanged,
    inserted_modules,
    key,
    outermost,
    paths,
)
from .wrapper import innermost

FORMAT = 1
KEY = "regard"  # under which the metadata of a file, or a library's configuration, holds a recipe


@dataclass(frozen=True)
class Step:
    """One insertion, as data.

    Attributes:
        path: Name of the module that it follows or replaces.
        child: Its name in that module; empty if it replaces it.
        mechanism: Its key in the catalog, or the name of a class of one's own.
        arguments: The arguments of its constructor.
        start: ``identity`` or ``paper``.
        layout: The layout of its input.
        output: Where its tensor is in what the module returns.
        runs: The runs of the module that it follows; empty if it follows all.
        grid: Whether tokens are put into the order of their grid.
        source: Where the grid of a pass can be read.
        some_runs: Whether the module also runs with other channels.
    """

    path: str
    child: str
    mechanism: str
    arguments: Mapping[str, Any]
    start: str
    layout: Layout
    output: Path = ()
    runs: tuple[int, ...] = ()
    grid: bool = False
    source: Source | None = None
    some_runs: bool = False

    def __str__(self) -> str:
        where = "after" if self.child else "in place of"
        options = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.mechanism}({options}) {where} {self.path or 'the model'}"


class Recipe(Sequence[Step]):
    """How the insertions of a model are made: places, mechanisms, arguments and start.

    Args:
        steps: The insertions; replacements of convolutions come first.
        model: The name of the class of the model that they were read from.

    >>> from regard import insert
    >>> host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> found = recipe(insert(host, "se", at="0", reduction=2))
    >>> print(*found)
    squeeze_excitation(channels=8, reduction=2) after 0
    >>> Recipe.from_json(found.to_json()) == found
    True
    >>> list(found.apply(host).state_dict())[:3]
    ['0.weight', '0.bias', '0.attention.gamma']
    """

    def __init__(self, steps: Iterable[Step], model: str = "") -> None:
        self.steps = tuple(steps)
        self.model = model

    def __getitem__(self, index):  # type: ignore[override]  # an integer or a slice
        return self.steps[index]

    def __len__(self) -> int:
        return len(self.steps)

    def __eq__(self, other: object) -> bool:
        return self.steps == other.steps if isinstance(other, Recipe) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Recipe of {len(self)} insertion{'s' * (len(self) != 1)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as dictionaries and lists of numbers and text.

        Raises:
            TypeError: an argument of a mechanism is something else.
        """
        return {
            "format": FORMAT,
            "model": self.model,
            "insertions": [_as_data(step) for step in self.steps],
        }

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` returned.

        Raises:
            ValueError: it is something else, or of a later version of the format.
        """
        if not isinstance(data, Mapping) or "format" not in data or "insertions" not in data:
            raise ValueError(f"expected a recipe of regard, got {str(data)[:80]!r}")
        if data["format"] != FORMAT:
            raise ValueError(
                f"the recipe has format {data['format']!r}, and this version of regard reads "
                f"{FORMAT}: install a newer one"
            )
        return cls(map(_from_data, data["insertions"]), data.get("model", ""))

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` returned."""
        return cls.from_dict(json.loads(text))

    def apply(
        self,
        model: nn.Module,
        *,
        inplace: bool = False,
        mechanisms: Iterable[type[Mechanism]] = (),
    ) -> nn.Module:
        """Return a copy of a model with these insertions, whose weights are new.

        No run of the model is needed.

        Args:
            model: A model without insertions whose modules have the same names.
            inplace: Whether the model itself gets them.
            mechanisms: Classes of one's own that the recipe names.

        Raises:
            ValueError: places are missing, or the model has insertions already.
        """
        taken = {(one.path, one.child) for one in described(model)}
        if any((step.path, step.child) in taken for step in self.steps):
            raise ValueError(f"{type(model).__name__} has insertions already: regard.remove first")
        there = {path for path, _ in paths(model)}
        needed = {step.path: str(step) for step in reversed(self.steps)}
        needed |= {s.source.module: f"grid of {s.path}" for s in self.steps if s.source is not None}
        if missing := [(path, what) for path, what in needed.items() if path not in there]:
            raise ValueError(
                f"{type(model).__name__} lacks places of the recipe"
                f"{f', which is of a {self.model}' if self.model else ''}:\n"
                + aligned([("module", "what it is for"), *missing], left=2)
            )
        if inplace and "" in needed:
            raise ValueError("what follows the model as a whole cannot be inserted in place")
        own = {cls.__name__: cls for cls in mechanisms}
        new = model if inplace else deepcopy(model)
        sizes: dict[Source, Sizes] = {}
        for step in self.steps:
            new = _with_step(new, step, own, sizes)
        for source, noted in sizes.items():
            old = outermost(new, source.module)
            new = exchanged(new, old, Sized(old, source.output, Note(noted, source.sides)))
        return new


def recipe(model: nn.Module) -> Recipe:
    """Return how the insertions of a model are made, as data.

    Args:
        model: A model, with insertions or without any.

    Returns:
        A sequence of steps with ``to_json()`` and ``apply(host)``.
    """
    found = [*inserted_modules(model)]
    # What follows a replacement can only be inserted after it was made.
    ordered = [one for one in found if not one[1]] + [one for one in found if one[1]]
    sources = {
        id(module.sizes): module.source(path)
        for path, module in _with_wrappers(model)
        if isinstance(module, Sized)
    }
    steps = []
    for path, child, inserted in ordered:
        mechanism = inserted.mechanism
        identity = inserted.gamma is not None or (child and mechanism.identity_at_init)
        facts: dict[str, Any] = {}
        if isinstance(inserted, InsertedAttention) and (place := attended(outermost(model, path))):
            facts = {
                "output": place._paths[child],
                "runs": tuple(sorted(place._runs.get(child, ()))),
                "grid": inserted.grid,
                "source": sources.get(id(inserted.sizes)) if inserted.sizes else None,
                "some_runs": inserted.some_runs,
            }
        start = "identity" if identity else "paper"
        arguments = {name: _fixed(value) for name, value in mechanism.arguments.items()}
        steps.append(
            Step(path, child, _name(mechanism), arguments, start, inserted.layout, **facts)
        )
    return Recipe(steps, type(innermost(model)).__name__)


def _with_step(
    model: nn.Module,
    step: Step,
    own: Mapping[str, type[Mechanism]],
    sizes: dict[Source, Sizes],
) -> nn.Module:
    """Make one insertion, in place, and return the model."""
    mechanism = create(own.get(step.mechanism) or find_class(step.mechanism), **step.arguments)
    like = _tensor_near(model, step.path)
    if not step.child:
        old = innermost(outermost(model, step.path))
        built = Replacement(mechanism.to(like.device, like.dtype), old, step.layout)
        return exchanged(model, old, built.train(old.training))
    noted = None
    if step.source is not None:
        noted = sizes.setdefault(step.source, Sizes())
    attention = InsertedAttention(
        mechanism,
        step.layout,
        gated=step.start == "identity" and not mechanism.identity_at_init,
        grid=step.grid,
        sizes=noted,
        some_runs=step.some_runs,
    ).to(like.device, like.dtype)
    gated = attention.gamma is not None
    what = Insertion(
        step.path, step.child, step.mechanism, step.layout, 0, gated, step.output, step.runs
    )
    return attach(model, what, attention)


def _tensor_near(model: nn.Module, path: str) -> Tensor:
    """Return a weight of the module at a path, or of the nearest module around it that has any."""
    modules = dict(paths(model))
    while True:
        for tensor in modules[path].parameters():
            if tensor.is_floating_point():
                return tensor
        if not path:
            return torch.empty(0)
        path = path.rpartition(".")[0]


def _with_wrappers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        yield path_of(name), module


def _name(mechanism: Mechanism) -> str:
    cls = type(mechanism)
    name = key(cls)
    try:
        return name if find_class(name) is cls else cls.__name__
    except ValueError:
        return cls.__name__


def _fixed(value: Any) -> Any:
    """Return lists as tuples, as they are read from JSON."""
    return tuple(map(_fixed, value)) if isinstance(value, (list, tuple)) else value


def _as_data(step: Step) -> dict[str, Any]:
    for name, value in step.arguments.items():
        if not _is_data(value):
            raise TypeError(
                f"{step.mechanism}: {name} is a {type(value).__name__}, which a recipe cannot hold"
            )
    data = asdict(step)
    return {name: value for name, value in data.items() if value not in ((), None, False)}


def _is_data(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_data, value))
    if isinstance(value, Mapping):
        return all(isinstance(n, str) and _is_data(v) for n, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _from_data(data: Mapping[str, Any]) -> Step:
    try:
        facts = {name: _fixed(value) for name, value in data.items()}
        layout = {name: _fixed(value) for name, value in facts.pop("layout").items()}
        arguments = {name: _fixed(value) for name, value in facts.pop("arguments").items()}
        if source := facts.pop("source", None):
            path, output, sides = source
            facts["source"] = Source(path, output, tuple(Side(*side) for side in sides))
        return Step(**facts, layout=Layout(**layout), arguments=arguments)
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"expected an insertion of a recipe, got {str(data)[:80]!r}: {e}") from e
