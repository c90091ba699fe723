"""Other libraries whose training, saving or building an insertion must survive, one file each.

A file is imported when it is first named, as ``regard.hosts.ultralytics``, or by a checkpoint that
needs it; it imports its library where that is used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not find_spec(f"{__name__}.{name}"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
