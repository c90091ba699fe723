"""Choosing the modules that attention follows: by presets or by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby

from torch import nn

from ..core.names import glob
from .dry_run import MIXING, Call, DryRun, Value

At = str | re.Pattern[str] | Callable[[str, nn.Module], bool]

ADDITIONS = frozenset(("add", "add_", "__add__", "__iadd__", "__radd__"))
PARTS = frozenset(("__getitem__", "chunk", "split", "unbind", "narrow", "select", "tensor_split"))
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def branches(run: DryRun) -> Iterator[tuple[Call, Call | None]]:
    """Yield for every residual addition the module that adds, and the last layer of the branch.

    An addition is residual if both terms are computed, inside the module that adds, from the same
    tensor: the shortcut is not sliced and contains at most one convolution, the branch contains
    more. The last layer is the last one that normalizes, convolves or multiplies by a weight, and
    through which the whole branch passes; it may be None.
    """
    for value in run.values:
        call = value.call
        if call is None or value.op not in ADDITIONS or len(value.inputs) != 2:
            continue
        if any(term.shape != value.shape for term in value.inputs):
            continue
        left, right = (_ancestors(term, call.start) for term in value.inputs)
        if not (shared := left & right):
            continue
        source = max(shared, key=lambda v: v.index)
        old = _ancestors(source, call.start)
        (shortcut, _), (branch, end) = sorted(
            ((left - old, value.inputs[0]), (right - old, value.inputs[1])),
            key=lambda t: _work(t[0]),
        )
        if _mixings(shortcut) > 1 or any(v.op in PARTS for v in shortcut):
            continue
        if _work(shortcut) == _work(branch):
            continue
        through = sorted(branch, key=lambda v: v.index, reverse=True)
        last = (layer for v in through if (layer := _layer(v)) and _passes(end, v, old))
        yield call, next(last, None)


def _ancestors(value: Value, start: int) -> set[Value]:
    """Return the value and all values it was computed from, back to those before ``start``."""
    found, todo = set(), [value]
    while todo:
        if (v := todo.pop()) not in found:
            found.add(v)
            todo += v.inputs if v.index >= start else ()
    return found


def _mixings(path: Iterable[Value]) -> int:
    return sum(v.op in MIXING for v in path)


def _work(path: Collection[Value]) -> tuple[int, int]:
    return _mixings(path), len(path)


def _layer(value: Value) -> Call | None:
    return next((call for call in value.returned_by if call.layer), None)


def _passes(end: Value, through: Value, old: set[Value]) -> bool:
    """Return whether all paths from the ``old`` values to ``end`` lead through one value."""
    seen, todo = {through}, [end]
    while todo:
        if (v := todo.pop()) in old:
            return False
        if v not in seen:
            seen.add(v)
            todo += v.inputs
    return True


def residual(run: DryRun, own: set[str]) -> list[str]:
    """Return the last layers of the residual branches."""
    return _unique(layer.name for _, layer in branches(run) if layer and layer.name not in own)


def block(run: DryRun, own: set[str]) -> list[str]:
    """Return the residual blocks."""
    return _unique(call.name for call in _blocks(run, own))


def stage(run: DryRun, own: set[str]) -> list[str]:
    """Return the last block of each stage."""
    blocks = dict.fromkeys(_blocks(run, own))
    outer = [call for call in blocks if sum(around in blocks for around in call.within()) == 1]
    runs = groupby(outer, key=lambda call: call.output and call.output.size)
    return _unique([*run][-1].name for _, run in runs)


PRESETS = {"residual": residual, "block": block, "stage": stage}


def _blocks(run: DryRun, own: set[str]) -> list[Call]:
    """Return the runs of all classes that add a shortcut somewhere, except the model itself."""
    adding = {type(call.module) for call, _ in branches(run) if call.name and call.name not in own}
    return [
        call
        for call in run.calls
        if type(call.module) in adding and call.name and call.name not in own
    ]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def hook_target(run: DryRun, name: str) -> str:
    """Return the name of the module that gets the hook and the child, usually the same.

    A container would run an additional child as one of its own layers; it is therefore replaced by
    the child that returns the container's output.

    Raises:
        ValueError: the module did not run, or is a container without such a child.
    """
    calls = run.of(name)
    if not calls:
        raise ValueError("it did not run in the dry run")
    if not isinstance(calls[0].module, CONTAINERS):
        return name
    for call in calls[0].output.returned_by if calls[0].output else ():
        inside = calls[0] in call.within() and call is not calls[0]
        alone = len(run.of(call.name)) == len(calls)
        if inside and alone and not isinstance(call.module, CONTAINERS):
            return call.name
    raise ValueError("a container cannot have a further child; name a module inside or around it")


def match(at: At, modules: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """Return the names that a glob, a regular expression or a callable matches.

    In a glob ``*`` matches any text without dots, ``**`` any text.

    >>> net = nn.ModuleDict({"layer1": nn.Sequential(nn.ReLU()), "layer2": nn.ReLU()})
    >>> match("layer*", net.named_modules()), match("**.0", net.named_modules())
    (['layer1', 'layer2'], ['layer1.0'])
    """
    if isinstance(at, str):
        wanted = glob(at)
        return [name for name, _ in modules if wanted.fullmatch(name) and bool(name) == bool(at)]
    if isinstance(at, re.Pattern):
        return [name for name, _ in modules if at.search(name)]
    if callable(at):
        return [name for name, module in modules if at(name, module)]
    raise TypeError(
        f"at: expected a name, glob, compiled regular expression or callable, got {at!r}"
    )
