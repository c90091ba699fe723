"""State dicts of whole models in which other people's modules stand, under the names of regard."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import catalog
from .old import Old, Options
from .table import OLD, SOURCE

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Place:
    """A module in a state dict: its prefix, what takes its place, and how to make that."""

    prefix: str
    mechanism: str
    source: str
    kwargs: Options
    code: str

    def own(self, name: str) -> str:
        """What follows the prefix in the name of an entry, or nothing."""
        start = self.prefix + "." if self.prefix else ""
        return name[len(start) :] if name.startswith(start) else ""

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict with its entries under our names."""
        from ..factory import load_reference

        found = {own: t for name, t in state.items() if (own := self.own(name))}
        try:
            module = load_reference(self.mechanism, self.source, self.kwargs, found)
        except ValueError as error:
            raise ValueError(f"{self.prefix}: {error}") from None
        others = {name: t for name, t in state.items() if not self.own(name)}
        start = self.prefix + "." if self.prefix else ""
        return others | {start + name: t for name, t in module.state_dict().items()}


def convert(
    state: Mapping[str, Tensor], places: Mapping[str, str], *, source: str = SOURCE
) -> dict[str, Tensor]:
    """Rename what other people's modules have in a model's state dict.

    Args:
        state: The state dict of a whole model.
        places: What stands where, by the prefix of its entries, in which ``*`` is any one name:
            a mechanism (``squeeze_excitation``), or an old class; its arguments follow in
            parentheses where the weights do not tell them, as in ``EMSA(512, 64, 64, 8)``.
        source: Whose modules they are, as for `regard.load_reference`.

    Returns:
        A new state dict; entries that stand under no prefix are the same tensors.

    Raises:
        ValueError: nothing stands at a prefix, the mathematics is another, or the weights do not
            fit.
        TypeError: an argument is missing or unknown.

    >>> import torch
    >>> old = {"se.fc.0.weight": torch.zeros(4, 64), "se.fc.2.weight": torch.zeros(64, 4)}
    >>> sorted(convert(old, {"se": "SEAttention"}))
    ['se.excite.weight', 'se.squeeze.weight']
    """
    for place in find(state, places, source=source):
        state = place.renamed(state)
    return dict(state)


def find(
    state: Mapping[str, Tensor], places: Mapping[str, str], *, source: str = SOURCE
) -> list[Place]:
    """The modules that `convert` would rename, with their arguments."""
    found = {}
    for pattern, what in places.items():
        name, args, kwargs = _read(what)
        prefixes = _matching(state, pattern)
        if not prefixes:
            raise ValueError(f"nothing in the state dict stands under {pattern!r}")
        for prefix in prefixes:
            if any(_within(prefix, other) or _within(other, prefix) for other in found):
                raise ValueError(f"{prefix!r} is converted twice")
            if source == SOURCE:
                found[prefix] = _old_place(state, prefix, name, args, kwargs)
                continue
            if args:
                raise ValueError(f"{what}: give the arguments of {source} by name")
            key = catalog.resolve(name)
            found[prefix] = Place(prefix, key, source, kwargs, f"{key} of {source}")
    return list(found.values())


def _old_place(
    state: Mapping[str, Tensor], prefix: str, name: str, args: list[Any], kwargs: Options
) -> Place:
    """A module of the old library: what is not said of it is read off its weights."""
    old = _old(name)
    start = prefix + "." if prefix else ""
    shapes = {n[len(start) :]: tuple(t.shape) for n, t in state.items() if n.startswith(start)}
    try:
        seen = old.sizes(shapes)
    except (KeyError, IndexError, ZeroDivisionError):  # its weights are not those of the class
        seen = {}
    try:
        given = old.given((), {**seen, **old.said(args, kwargs)})
    except TypeError as error:
        raise TypeError(f"{prefix}: {error}") from None
    source = f"{SOURCE}:{old.name}"
    return Place(prefix, catalog.homes()[old.new], source, given, old.code(given))


def _old(name: str) -> Old:
    """The row of an old class, by its name or by that of the mechanism.

    Raises:
        ValueError: there is none, or there are several.
    """
    named = [old for old in OLD if old.name == name]
    if not named:
        key = catalog.resolve(name)
        named = [old for old in OLD if old.new and catalog.homes()[old.new] == key]
    if not named:
        raise ValueError(f"{name}: no old class is this mechanism")
    if named[0].refused:
        raise ValueError(f"{name}: {named[0].refused}")
    if len(named) > 1:
        raise ValueError(f"{name} may mean {' or '.join(old.name for old in named)}; say which")
    return named[0]


def _read(what: str) -> tuple[str, list[Any], Options]:
    """A name, and the literals between its parentheses.

    >>> _read("EMSA(512, 64, 64, h=8)")
    ('EMSA', [512, 64, 64], {'h': 8})
    """
    try:
        node = ast.parse(what.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name):
            raise ValueError
        args = [ast.literal_eval(arg) for arg in call.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError):
        raise ValueError(f"{what!r} is no name with arguments, as SEAttention(64) is") from None
    return call.func.id, args, kwargs


def _matching(state: Mapping[str, Tensor], pattern: str) -> list[str]:
    """The prefixes in a state dict that a pattern means.

    >>> _matching({"a.0.se.w": 1, "a.1.se.w": 2, "b.se.w": 3}, "a.*.se")
    ['a.0.se', 'a.1.se']
    """
    depth = pattern.count(".") + 1 if pattern else 0
    wanted = re.compile(r"[^.]+".join(map(re.escape, pattern.split("*"))))
    stems = {tuple(name.split(".")[:depth]): name.count(".") for name in state}
    found = [".".join(stem) for stem, dots in stems.items() if dots >= depth]
    return [prefix for prefix in found if wanted.fullmatch(prefix)]


def _within(prefix: str, other: str) -> bool:
    return not other or prefix == other or prefix.startswith(other + ".")
