"""Making old modules importable under every name that they had."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from .legacy import ABSENT, Framework, known, legacy_class
from .settings import settings

ROOTS = ("", "model.", "fightingcv_attention.")


@cache
def module_names() -> dict[str, str]:
    """Every full name of an old module, with its name in the table of old classes."""
    names = dict.fromkeys([*known(), *(module for module, _ in ABSENT)])
    return {root + name: name for root in ROOTS for name in names}


@cache
def packages() -> frozenset[str]:
    """The packages in which old modules stood."""
    parents = {name.rpartition(".")[0] for name in module_names()}
    return frozenset(parents | {name.partition(".")[0] for name in parents})


class Finder(MetaPathFinder):
    """Finds old modules before anybody else does, and their packages where nobody else does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; a file there that has none of the old classes is the project's own."""
        if name not in packages() and name not in module_names():
            return None
        there = self.others(name, path, target)
        if name in packages():
            return there or ModuleSpec(name, Lookup(None), is_package=True)
        carried = known().get(module_names()[name], {})
        if there and not carried.keys() & defined(there):
            return there
        return ModuleSpec(name, Lookup(there))

    def others(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """What the other finders find: a copy of the old code, or a module of the project."""
        finders = [finder for finder in sys.meta_path if finder is not self]
        return next(filter(None, (f.find_spec(name, path, target) for f in finders)), None)


def defined(spec: ModuleSpec) -> set[str]:
    """The classes that the file of a module defines."""
    try:
        nodes = ast.parse(Path(spec.origin or "").read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)}


class Lookup(Loader):
    """Loads what `Finder` has found: a module that looks its classes up in the table.

    Args:
        there: The module's own file, from which come the names that have no place here.
    """

    def __init__(self, there: ModuleSpec | None) -> None:
        self.there = there

    def exec_module(self, module: ModuleType) -> None:
        """Make each class when it is asked for; packages hold none."""
        full = module.__name__
        name = module_names().get(full, "")
        carried = sorted(known().get(name, {}))

        def look(wanted: str) -> Any:
            if wanted in carried:
                value = made(name, wanted, framework_of(full))
            elif not wanted.startswith("__") and hasattr(self.own(), wanted):
                value = getattr(self.own(), wanted)
            elif (name, wanted) in ABSENT:
                raise ImportError(f"{name}.{wanted}: {ABSENT[name, wanted]}")
            else:
                raise AttributeError(f"module {full!r} has no attribute {wanted!r}")
            setattr(module, wanted, value)
            return value

        vars(module).update(__getattr__=look, __dir__=lambda: carried, __all__=carried)

    @cache  # noqa: B019  # a module is loaded once
    def own(self) -> ModuleType | None:
        """The module of the file that is there."""
        if self.there is None or self.there.loader is None:
            return None
        module = importlib.util.module_from_spec(self.there)
        self.there.loader.exec_module(module)
        return module


def made(module: str, name: str, framework: Framework) -> type:
    """The class that takes the place of an old one.

    Raises:
        ImportError: there is none.
    """
    old = legacy_class(module, name)
    if framework == "torch":
        from .modules import legacy_module

        return legacy_module(old)
    if old.legacy.keras is None:
        raise ImportError(f"{module}.{name}: regard.{old.new} has no twin in Keras yet")
    from .layers import legacy_layer

    return legacy_layer(old)


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
