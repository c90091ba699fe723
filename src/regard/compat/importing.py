"""Making old modules importable under every name that they had."""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .old import Framework, Old
from .settings import settings
from .table import OLD

ROOTS = ("", "model.", "fightingcv_attention.")


@cache
def rows() -> dict[str, dict[str, Old]]:
    """The rows of the table, by every full name of their module and by class."""
    found: dict[str, dict[str, Old]] = {}
    for old in OLD:
        for root in ROOTS:
            found.setdefault(root + old.module, {})[old.name] = old
    return found


@cache
def packages() -> frozenset[str]:
    """The packages in which old modules stood."""
    parents = {name.rpartition(".")[0] for name in rows()}
    return frozenset(parents | {name.partition(".")[0] for name in parents})


class Finder(MetaPathFinder):
    """Finds old modules before anybody else does, and their packages where nobody else does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; what has no place here is left to the old code, where that is at hand."""
        if name not in packages() and name not in rows():
            return None
        if name in packages() or all(old.refused for old in rows()[name].values()):
            others = [finder for finder in sys.meta_path if finder is not self]
            found = (finder.find_spec(name, path, target) for finder in others)
            if there := next(filter(None, found), None):
                return there
        return ModuleSpec(name, Lookup(), is_package=name in packages())


class Lookup(Loader):
    """Loads what `Finder` has found: a module that looks its classes up in the table."""

    def exec_module(self, module: ModuleType) -> None:
        """Make each class when it is asked for; packages hold none."""
        name = module.__name__
        found = rows().get(name, {})

        def look(wanted: str) -> Any:
            if wanted not in found:
                raise AttributeError(f"module {name!r} has no attribute {wanted!r}")
            value = made(found[wanted], framework_of(name))
            setattr(module, wanted, value)
            return value

        there = sorted(wanted for wanted, old in found.items() if not old.refused)
        vars(module).update(__getattr__=look, __dir__=lambda: there, __all__=there)


def made(old: Old, framework: Framework) -> type:
    """The class that takes the place of an old one.

    Raises:
        ImportError: there is none.
    """
    if old.refused:
        raise ImportError(f"{old.module}.{old.name}: {old.refused}")
    if framework == "torch":
        from .modules import carried

        return carried(old)
    if old.keras is None:
        raise ImportError(f"{old.module}.{old.name}: regard.{old.new} has no twin in Keras yet")
    from .layers import layer

    return layer(old)


def framework_of(name: str) -> Framework:
    """Whose class is meant: that of ``attention.X`` may be TensorFlow's, if the script uses it."""
    if settings.framework or not name.startswith("attention."):
        return settings.framework or "torch"
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    wanted = imports(Path(script)) if script else set()
    if not wanted & {"tensorflow", "keras", "torch"}:
        wanted = {name for name in ("tensorflow", "torch") if name in sys.modules}
        return "keras" if wanted == {"tensorflow"} else "torch"
    return "keras" if wanted & {"tensorflow", "keras"} else "torch"


def imports(script: Path) -> set[str]:
    """The packages that a script imports.

    >>> sorted(imports(Path(__file__)) & {"ast", "torch"})
    ['ast']
    """
    try:
        nodes = list(ast.walk(ast.parse(script.read_bytes())))
    except (OSError, SyntaxError, ValueError):
        return set()
    found = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    found |= {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}
    return {name.partition(".")[0] for name in found}
