"""Converting the state dicts of models that contain attention modules of other people's code."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import catalog
from ..core.names import glob
from ..references import Options, Reference, Source, records
from .legacy import ABSENT, SOURCE, LegacyClass

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FoundModule:
    """A module found in a state dict: its prefix, its class and its arguments."""

    prefix: str
    key: str
    record: Reference
    kwargs: Options

    def own(self, name: str) -> str:
        """Return the name of an entry without the prefix, or an empty string."""
        start = self.prefix + "." if self.prefix else ""
        return name[len(start) :] if name.startswith(start) else ""

    @property
    def code(self) -> str:
        """Source code, or a description, of the module that replaces it."""
        if self.record.legacy and not self.record.needs_shapes:
            return LegacyClass(self.key, self.record, self.record.legacy).code(self.kwargs)
        return f"{self.key} of {self.record.source}"

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict with the module's entries renamed."""
        from ..factory import load_reference

        found = {own: t for name, t in state.items() if (own := self.own(name))}
        try:
            module = load_reference(self.key, self.record.source, self.kwargs, found)
        except ValueError as error:
            raise ValueError(f"{self.prefix}: {error}") from None
        others = {name: t for name, t in state.items() if not self.own(name)}
        start = self.prefix + "." if self.prefix else ""
        return others | {start + name: t for name, t in module.state_dict().items()}


def convert(
    state: Mapping[str, Tensor], modules: Mapping[str, str], *, source: str = SOURCE
) -> dict[str, Tensor]:
    """Rename the entries of other people's attention modules in a model's state dict.

    Args:
        state: The state dict of a whole model.
        modules: The modules by the prefix of their entries, in which ``*`` matches one name: a
            mechanism (``squeeze_excitation``), or a class of that source; followed by arguments in
            parentheses if the weights do not determine them, as in ``EMSA(512, 64, 64, 8)``.
        source: The origin of the modules, as for `regard.load_reference`.

    Returns:
        A new state dict; entries outside the prefixes are not copied.

    Raises:
        ValueError: a prefix has no entries, the old class computes something else, or the weights
            do not fit.
        TypeError: an argument is missing or unknown.

    >>> import torch
    >>> old = {"se.fc.0.weight": torch.zeros(4, 64), "se.fc.2.weight": torch.zeros(64, 4)}
    >>> sorted(convert(old, {"se": "SEAttention"}))
    ['se.excite.weight', 'se.squeeze.weight']
    """
    for module in find(state, modules, source=source):
        state = module.renamed(state)
    return dict(state)


def find(
    state: Mapping[str, Tensor], modules: Mapping[str, str], *, source: str = SOURCE
) -> list[FoundModule]:
    """Return the modules whose entries `convert` would rename, with their arguments."""
    found: dict[str, FoundModule] = {}
    for pattern, code in modules.items():
        name, args, kwargs = _parse(code)
        prefixes = _matching(state, pattern)
        if not prefixes:
            raise ValueError(f"the state dict has no entries under {pattern!r}")
        for prefix in prefixes:
            if any(_within(prefix, other) or _within(other, prefix) for other in found):
                raise ValueError(f"{prefix!r} is converted twice")
            key, record = _record(name, source)
            found[prefix] = _found(state, prefix, key, record, args, kwargs)
    return list(found.values())


def _found(
    state: Mapping[str, Tensor],
    prefix: str,
    key: str,
    record: Reference,
    args: list[Any],
    kwargs: Options,
) -> FoundModule:
    """Return a module with all its arguments; missing ones are inferred from its weights."""
    start = prefix + "." if prefix else ""
    shapes = {n[len(start) :]: tuple(t.shape) for n, t in state.items() if n.startswith(start)}
    try:
        given = record.by_name(args, kwargs)
        completed = {**given, **record.complete(given, shapes)}
    except (TypeError, ValueError) as error:
        raise type(error)(f"{prefix}: {error}") from None
    return FoundModule(prefix, key, record, completed)


def _record(name: str, source: str) -> tuple[str, Reference]:
    """Return the mechanism and the record for a source and the name of a class or mechanism.

    Raises:
        ValueError: there is none, there are several, or it cannot be loaded.
    """
    wanted = Source.parse(source)
    every = [(key, r) for key in catalog.entries() for r in records(key) if r.repo == wanted.repo]
    if not every:
        raise ValueError(f"no reference {source!r} of any mechanism")
    found = [(key, record) for key, record in every if record.class_name == name]
    if not found:
        if absent := [why for (_, absent), why in ABSENT.items() if absent == name]:
            raise ValueError(f"{name}: {absent[0]}")
        mechanism = catalog.resolve(name)
        found = [(k, r) for k, r in every if k == mechanism and wanted.matches(r.source)]
    loads = [(key, record) for key, record in found if record.loads]
    if len(loads) > 1:  # the name of a mechanism means the whole, not a gate that is part of it
        loads = [(k, r) for k, r in loads if not (r.legacy and r.legacy.call == "Gate")]
    if not found:
        raise ValueError(f"{name}: no class of {source} is this mechanism")
    if not loads:
        key, record = found[0]
        raise ValueError(f"{record.source} is not {key}: it {record.differs}")
    if len(loads) > 1:
        names = " or ".join(record.class_name for _, record in loads)
        raise ValueError(f"{name} may mean {names}; name one")
    return loads[0]


def _parse(code: str) -> tuple[str, list[Any], Options]:
    """Parse a name, or a call with literals as arguments.

    >>> _parse("EMSA(512, 64, 64, h=8)")
    ('EMSA', [512, 64, 64], {'h': 8})
    """
    try:
        node = ast.parse(code.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name):
            raise ValueError
        args = [ast.literal_eval(arg) for arg in call.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError):
        raise ValueError(f"expected a name or a call as SEAttention(64), got {code!r}") from None
    return call.func.id, args, kwargs


def _matching(state: Mapping[str, Tensor], pattern: str) -> list[str]:
    """Return the prefixes in a state dict that match a pattern.

    >>> _matching({"a.0.se.w": 1, "a.1.se.w": 2, "b.se.w": 3}, "a.*.se")
    ['a.0.se', 'a.1.se']
    """
    wanted = glob(pattern)
    paths = (name.split(".") for name in state)
    prefixes = dict.fromkeys(".".join(path[:i]) for path in paths for i in range(len(path)))
    return [name for name in prefixes if wanted.fullmatch(name) and bool(name) == bool(pattern)]


def _within(prefix: str, other: str) -> bool:
    return not other or prefix == other or prefix.startswith(other + ".")
