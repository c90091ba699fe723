"""Creating a mechanism by name, with new weights or from a checkpoint of other people's code."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from . import references
from .catalog import show
from .core.attention import Mechanism


def mechanism(name: str | type[Mechanism]) -> type[Mechanism]:
    """Return the class for a key, a class name or an alias; a class is returned unchanged.

    >>> mechanism("se")
    <class 'regard.mechanisms.squeeze_excitation.SqueezeExcitation'>
    """
    if isinstance(name, type) and issubclass(name, Mechanism):
        return name
    if not isinstance(name, str):
        raise TypeError(f"mechanism: expected a name or a Mechanism class, got {name!r}")
    entry = show(name)
    return getattr(import_module(f"regard.mechanisms.{entry.key}"), entry.name)


def create(name: str | type[Mechanism], /, *args: Any, **options: Any) -> Mechanism:
    """Create a mechanism.

    Args:
        name: Its key or an alias, which `regard.find` lists; or a class of your own.
        args: Its sizes; the first is the number of channels, if the class needs one.
        options: Its options; `regard.show` lists them.

    Raises:
        ValueError: the name is unknown or ambiguous, or an argument is invalid.
        TypeError: an option is unknown or a size is missing.

    >>> create("se", 64, reduction=8).squeeze
    Linear(in_features=64, out_features=8, bias=False)
    >>> create("se", 64, reductoin=8)
    Traceback (most recent call last):
    TypeError: SqueezeExcitation: no option "reductoin"; did you mean "reduction"?
    """
    cls = mechanism(name)
    known = inspect.signature(cls).parameters
    for option in options.keys() - known.keys():
        close = get_close_matches(option, known, n=1)
        hint = f'did you mean "{close[0]}"?' if close else "there are " + ", ".join(known)
        raise TypeError(f'{cls.__name__}: no option "{option}"; {hint}')
    return cls(*args, **options)


def load_reference(
    name: str, source: str, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
) -> nn.Module:
    """Build a mechanism from another implementation's arguments and state dict.

    Args:
        name: Key or alias of the mechanism.
        source: ``owner/repo`` or package, followed by ``:Class`` if it has several.
        kwargs: The arguments of its constructor.
        state: Its state dict.

    Returns:
        A module of regard with those weights, in their dtype.

    Raises:
        ValueError: the source is unknown (the message lists the known ones), the state does not
            fit, or that implementation computes something else.
        TypeError: an argument is unknown or missing.
    """
    return references.load(mechanism(name), source, kwargs, state)[0]
