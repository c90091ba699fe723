"""Makes old modules importable under all their names."""

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

from .legacy import ABSENT, Framework, keys_by_module, legacy_class
from .settings import settings

ROOTS = ("", "model.", "fightingcv_attention.")


@cache
def module_names() -> dict[str, str]:
    """Map the full names of all old modules to their names in the table of old classes."""
    names = dict.fromkeys([*keys_by_module(), *(module for module, _ in ABSENT)])
    return {root + name: name for root in ROOTS for name in names}


@cache
def packages() -> frozenset[str]:
    """Return the packages that contained old modules."""
    parents = {name.rpartition(".")[0] for name in module_names()}
    return frozenset(parents | {name.partition(".")[0] for name in parents})


class Finder(MetaPathFinder):
    """Finds old modules before all other finders, and their packages after all others."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module; a file of that name without any of the old classes is the project's."""
        if name not in packages() and name not in module_names():
            return None
        file = self.find_file(name, path, target)
        if name in packages():
            return file or ModuleSpec(name, LegacyLoader(None), is_package=True)
        names = keys_by_module().get(module_names()[name], {})
        if file and not names.keys() & defined(file):
            return file
        return ModuleSpec(name, LegacyLoader(file))

    def find_file(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """Ask the other finders: they find a copy of the old code, or a module of the project."""
        finders = [finder for finder in sys.meta_path if finder is not self]
        return next(filter(None, (f.find_spec(name, path, target) for f in finders)), None)


def defined(spec: ModuleSpec) -> set[str]:
    """Return the names of the classes that the file of a module defines."""
    try:
        nodes = ast.parse(Path(spec.origin or "").read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return set()
    return {node.name for node in nodes if isinstance(node, ast.ClassDef)}


class LegacyLoader(Loader):
    """Loads an old module, whose classes are created on first access.

    Args:
        file: The module that would be imported otherwise; it provides all other names.
    """

    def __init__(self, file: ModuleSpec | None) -> None:
        self.file = file

    def exec_module(self, module: ModuleType) -> None:
        """Let the module look up its attributes; those of a package are its modules only."""
        full = module.__name__
        name = module_names().get(full, "")
        names = sorted(keys_by_module().get(name, {}))

        def look(wanted: str) -> Any:
            if wanted in names:
                value = replacement(name, wanted, framework_of(full))
            elif not wanted.startswith("__") and hasattr(self.original(), wanted):
                value = getattr(self.original(), wanted)
            elif (name, wanted) in ABSENT:
                raise ImportError(f"{name}.{wanted}: {ABSENT[name, wanted]}")
            else:
                raise AttributeError(f"module {full!r} has no attribute {wanted!r}")
            setattr(module, wanted, value)
            return value

        vars(module).update(__getattr__=look, __dir__=lambda: names, __all__=names)

    @cache  # noqa: B019  # a module is loaded once
    def original(self) -> ModuleType | None:
        """Execute and return the module in the file, or return None."""
        if self.file is None or self.file.loader is None:
            return None
        module = importlib.util.module_from_spec(self.file)
        self.file.loader.exec_module(module)
        return module


def replacement(module: str, name: str, framework: Framework) -> type:
    """Return the class that replaces an old one.

    Raises:
        ImportError: there is none for Keras.
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
    """Return the framework of a module: Keras for ``attention.X`` if the script uses TensorFlow."""
    if settings.framework or not name.startswith("attention."):
        return settings.framework or "torch"
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    wanted = imports(Path(script)) if script else set()
    if not wanted & {"tensorflow", "keras", "torch"}:
        wanted = {name for name in ("tensorflow", "torch") if name in sys.modules}
        return "keras" if wanted == {"tensorflow"} else "torch"
    return "keras" if wanted & {"tensorflow", "keras"} else "torch"


def imports(script: Path) -> set[str]:
    """Return the packages that a script imports.

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
