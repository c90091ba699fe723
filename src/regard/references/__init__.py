"""Records of other people's classes, in files named after the mechanisms.

A record translates the arguments of a class and the names in its state dict, states the axes of its
attention map, and explains why it cannot be loaded, if so. `regard.load_reference` reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .reading import Source, State, fill
from .record import Legacy as Legacy
from .record import LegacyKeras as LegacyKeras
from .record import Options as Options
from .record import Reference as Reference
from .record import Shapes as Shapes

if TYPE_CHECKING:
    from torch import nn

    from ..core.attention import Mechanism


@cache
def records(key: str) -> tuple[Reference, ...]:
    """Return the records of a mechanism, given its key."""
    return import_module(f"{__name__}.{key}").REFERENCES


def matching(cls: type[Mechanism], source: str) -> tuple[Reference, ...]:
    """Return the records that match a source.

    Args:
        cls: The mechanism.
        source: ``owner/repo`` or package, followed by ``:Class`` if it has several.

    Raises:
        ValueError: there is none; the message lists the known sources. Or one that matches cannot
            be loaded; the message says why.
    """
    wanted, known = Source.parse(source), records(_key(cls))
    found = [record for record in known if wanted.matches(record.source)]
    if wanted.words:  # of several matches, the most specific one is meant
        most = max((len(Source.parse(record.source).words) for record in found), default=0)
        found = [r for r in found if len(Source.parse(r.source).words) == most]
    if not found:
        names = ", ".join(record.source for record in known if record.loads)
        raise ValueError(f"{cls.__name__}: no reference {source!r}; known: {names or 'none'}")
    if refused := [record for record in found if not record.loads]:
        if len(refused) < len(found) and not wanted.words:
            classes = " or ".join(record.source for record in found if record.loads)
            raise ValueError(f"{cls.__name__}: name the class: {classes}")
        first = refused[0]
        raise ValueError(f"{cls.__name__}: {first.source} is another mechanism: it {first.differs}")
    return tuple(found)


def load(
    cls: type[Mechanism], source: str, kwargs: Mapping[str, Any], state: State
) -> tuple[nn.Module, Reference, State]:
    """Build a module of regard from the arguments and the state dict of another implementation.

    If several classes match the source, the one that fits the state dict is used.

    Returns:
        The module, the record that was used, and the renamed state dict.

    Raises:
        ValueError: as for `matching`; or the state does not fit, or fits several classes.
        TypeError: an argument of the class is unknown or missing.
    """
    fits: list[tuple[nn.Module, Reference, State]] = []
    problems: list[str] = []
    candidates = matching(cls, source)
    for record in candidates:
        try:
            module, renamed = record.translate(_class(cls, record), kwargs, state)
            fits.append((fill(module, renamed), record, renamed))
        except KeyError as entry:
            problems.append(f"{record.source} needs the entry {entry}")
        except (TypeError, ValueError) as problem:
            if len(candidates) == 1:
                raise
            problems.append(f"{record.source}: {problem}")
    if not fits:
        raise ValueError(f"{cls.__name__}: {'; '.join(problems)}")
    if len(fits) > 1:
        names = " or ".join(record.source for _, record, _ in fits)
        raise ValueError(f"{cls.__name__}: the state fits several classes; name one: {names}")
    return fits[0]


def _key(cls: type[Mechanism]) -> str:
    return cls.__module__.rpartition(".")[2]


def _class(cls: type[Mechanism], record: Reference) -> Callable[..., nn.Module]:
    """Return the class that a record builds, or a function that builds it."""
    builds = record.builds or cls.__name__
    return getattr(sys.modules[cls.__module__], builds) if isinstance(builds, str) else builds
