"""Running a function around a method of another library."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def around(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Let a function run around a method, once however often this is called.

    Args:
        owner: The class or module that defines it.
        name: Its name.
        function: It gets the method, and then the arguments of the call.
    """
    old = vars(owner)[name]
    bound = isinstance(old, classmethod)
    method = old.__func__ if bound else old
    if hasattr(method, "_regard"):
        return

    @wraps(method)
    def new(*args: Any, **kwargs: Any) -> Any:
        return function(method, *args, **kwargs)

    new._regard = True  # type: ignore[attr-defined]
    setattr(owner, name, classmethod(new) if bound else new)
