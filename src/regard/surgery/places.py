"""Choosing the modules that attention follows: by presets or by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby

from torch import nn

from ..core.names import glob
from .dry_run import DryRun
from .following import MIXING
from .record import Call, Value

At = str | re.Pattern[str] | Callable[[str, nn.Module], bool]

ADDITIONS = frozenset(("add", "add_", "__add__", "__iadd__", "__radd__"))
PARTS = frozenset(("__getitem__", "chunk", "split", "unbind", "narrow", "select", "tensor_split"))
Chosen = dict[str, Value | None]  # names of modules, and of each the tensor that is meant


def branches(run: DryRun) -> Iterator[tuple[Call, Call | None, Value | None]]:
    """Yield for every residual addition the block that it belongs to, and where the branch ends.

    An addition is residual if both terms are computed, inside the block, from the same tensor: the
    shortcut is not sliced and contains at most one convolution, the branch contains more. The block
    is the module that adds; or the one that calls it, if that gives it the shortcut as an argument.
    The branch ends at the last layer that normalizes, convolves or multiplies by a weight, and
    through which the whole branch passes: at the outermost module around that layer through which
    the whole branch passes too. There may be none.
    """
    for added in run.values:
        call = added.call
        if call is None or added.op not in ADDITIONS or len(added.inputs) != 2:
            continue
        if any(term.shape != added.shape for term in added.inputs):
            continue
        if (found := _source(added, call)) is None:
            continue
        block, source = found
        left, right = (_ancestors(term, block.start) for term in added.inputs)
        old = _ancestors(source, block.start)
        (shortcut, _), (branch, end) = sorted(
            ((left - old, added.inputs[0]), (right - old, added.inputs[1])),
            key=lambda t: _work(t[0]),
        )
        if _mixings(shortcut) > 1 or any(v.op in PARTS for v in shortcut):
            continue
        if _work(shortcut) == _work(branch):
            continue
        through = sorted(branch, key=lambda v: v.index, reverse=True)
        last = next((v for v in through if _layer(v) and _passes(end, v, old)), None)
        host = value = None
        layer = _layer(last) if last else None
        for around in layer.within() if layer else ():
            if around in (call, block):
                break
            passed = [v for v in around.outputs.values() if v in branch and _passes(end, v, old)]
            if passed:
                host, value = around, passed[0]
        yield block, host, value


def _source(added: Value, call: Call) -> tuple[Call, Value] | None:
    """Return the block of an addition, and the last tensor from which both terms are computed."""
    left, right = (_ancestors(term, call.start) for term in added.inputs)
    if shared := left & right:
        return call, max(shared, key=lambda v: v.index)
    given = [term for term in added.inputs if term in call.given and term.index < call.start]
    if len(given) != 1 or call.parent is None:
        return None
    left, right = (_ancestors(term, call.parent.start) for term in added.inputs)
    if not (shared := left & right) or max(shared, key=lambda v: v.index) is not given[0]:
        return None
    return call.parent, given[0]


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


def residual(run: DryRun, own: Collection[str], within: str = "") -> Chosen:
    """Return the modules in which the residual branches end."""
    found = ((end, value) for _, end, value in branches(run) if end is not None)
    return {end.name: value for end, value in found if _is_free(end, own, within)}


def block(run: DryRun, own: Collection[str], within: str = "") -> Chosen:
    """Return the blocks."""
    return {call.name: None for call in _blocks(run, own, within)}


def stage(run: DryRun, own: Collection[str], within: str = "") -> Chosen:
    """Return the last block of each stage."""
    blocks = dict.fromkeys(_blocks(run, own, within))
    outer = [call for call in blocks if sum(around in blocks for around in call.within()) == 1]
    runs = groupby(outer, key=lambda call: call.output and call.output.size)
    return {[*run][-1].name: None for _, run in runs}


PRESETS = {"residual": residual, "block": block, "stage": stage}


def _blocks(run: DryRun, own: Collection[str], within: str) -> list[Call]:
    """Return the runs of all classes that add a shortcut somewhere, except the model itself.

    Where none does: the runs of the outermost classes that run repeatedly and contain layers; else
    the last modules, of those that all paths lead through, before the resolution changes.
    """
    free = [call for call in run.calls if _is_free(call, own, within)]
    adding = {type(call.module) for call, *_ in branches(run) if _is_free(call, own, within)}
    if found := [call for call in free if type(call.module) in adding]:
        return found
    layers = [call for call in free if call.layer and call.output is not None]
    inside: dict[type, set[str]] = {}
    for layer in layers:
        for around in layer.within():
            if around is not layer and around in free and not _is_builtin(around.module):
                inside.setdefault(type(around.module), set()).add(around.name)
    repeated = {cls for cls, names in inside.items() if len(names) > 1}
    found = [call for call in free if type(call.module) in repeated]
    outer = [c for c in found if not any(o in found for o in c.within() if o is not c)]
    if outer:
        return outer
    result = run.calls[0].output
    old = {value for value in run.values if value.index < 0}
    leaves = [
        call
        for call in free
        if not call.module._modules
        and (value := call.output)
        and len(value.shape) > 2
        and math.prod(_resolution(call)) > 1
        and result
        and _passes(result, value, old)
    ]
    groups = [[*group] for _, group in groupby(leaves, key=_resolution)]
    ends = [group[-1] for group in groups if any(call in layers for call in group)]
    return ends if len(groups) > 1 else []


def _resolution(call: Call) -> tuple[int, ...]:
    value = call.output
    assert value is not None
    named = zip(value.shape, value.axes, strict=True)
    return tuple(size for size, axis in named if axis.name not in ("b", "c"))


def _is_builtin(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")


def _is_free(call: Call, own: Collection[str], within: str) -> bool:
    inside = call.name.startswith(f"{within}.") if within else bool(call.name)
    return inside and call.name not in own


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
