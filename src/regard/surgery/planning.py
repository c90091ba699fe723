"""Planning insertions: they are found, checked and counted before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..core.attention import Mechanism
from ..core.names import listing
from ..factory import create
from ..factory import mechanism as find_class
from .dry_run import Call, DryRun, Example, Value, dry_run
from .layout import Layout
from .places import CONTAINERS, PRESETS, At, hook_target, match
from .site import InsertedAttention, Insertion, Replacement, free_name, inserted_modules

Options = dict[str, object]


@dataclass(frozen=True)
class PlannedInsertion:
    """An insertion that has been checked, but not built.

    Attributes:
        insertion: Its description.
        build: Returns a new mechanism.
        like: The tensor whose device and dtype the parameters get.
    """

    insertion: Insertion
    build: Callable[[], Mechanism]
    like: Value


def plan_insertions(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At,
    start: str,
    example: Example,
    options: Options,
) -> list[PlannedInsertion]:
    """Plan what `regard.insert` does, and raise what it raises."""
    cls = _class_of(mechanism, options)
    kind = _kind(cls)
    if kind == "convolution":
        raise ValueError(f"{cls.__name__} is a convolution: use regard.replace")
    if kind not in (None, "gate", "relation", "sequence"):
        raise ValueError(f"{cls.__name__} is a {kind}, which cannot be inserted into a network")
    if start not in ("identity", "paper"):
        raise ValueError(f"start must be 'identity' or 'paper', got {start!r}")
    run = _dry_run(model, example)
    own = _inserted_names(model)

    def plan(name: str) -> PlannedInsertion:
        path = hook_target(run, name)
        values = [_output(call) for call in run.of(path)]
        layouts = {Layout.of(value, run) for value in values}
        if len(layouts) > 1:
            raise ValueError(f"it runs {len(values)} times, with different channels or layouts")
        layout = layouts.pop()
        build = _maker(mechanism, cls, layout.channels, options)
        with torch.device("meta"):
            module = build()
            gated = start == "identity" and not module.identity_at_init
            attention = InsertedAttention(module, layout, gated=gated)
        for value in values:
            _try(attention, value, value)
        child = free_name(model.get_submodule(path))
        return PlannedInsertion(attention.describe(path, child), build, values[0])

    possible = [call.name for call in run.calls if _is_possible(call) and call.name not in own]
    return _plan_each(_names(model, run, at, own, possible), plan, cls, possible)


def plan_replacements(
    model: nn.Module, mechanism: str | type[Mechanism], at: At, example: Example, options: Options
) -> list[PlannedInsertion]:
    """Plan what `regard.replace` does, and raise what it raises."""
    cls = _class_of(mechanism, options)
    if _kind(cls) not in (None, "convolution"):
        raise ValueError(f"{cls.__name__} is a {_kind(cls)}: use regard.insert")
    run = _dry_run(model, example)
    own = _inserted_names(model)

    def plan(path: str) -> PlannedInsertion:
        convolution = model.get_submodule(path)
        if not isinstance(convolution, nn.Conv2d) or not path:
            raise ValueError(f"it is a {type(convolution).__name__}, no Conv2d of a model")
        if any(isinstance(child, InsertedAttention) for child in convolution.children()):
            raise ValueError("attention follows it, which would be lost; remove that first")
        calls = [call for call in run.of(path) if call.given]
        if not calls:
            raise ValueError("it did not run in the dry run")
        build = _maker(
            mechanism, cls, convolution.in_channels, _geometry(cls, convolution, options)
        )
        layout = Layout.of(calls[0].given[0], run)
        with torch.device("meta"):
            replacement = Replacement(build(), convolution, layout)
        for call in calls:
            _try(replacement, call.given[0], _output(call))
        return PlannedInsertion(replacement.describe(path, ""), build, calls[0].given[0])

    modules = [(name, m) for name, m in model.named_modules() if name not in own]
    possible = [name for name, m in modules if isinstance(m, nn.Conv2d) and run.of(name)]
    if not (names := match(at, modules)):
        raise ValueError(f"nothing matches at={at!r}; convolutions: {listing(possible, str(at))}")
    return _plan_each(names, plan, cls, possible)


def _kind(cls: type[Mechanism]) -> str | None:
    """Return the kind on the card, or None without a card: then any use is tried."""
    card = getattr(cls, "card", None)
    return None if card is None else card.kind if card.plug else "whole model"


def _class_of(mechanism: str | type[Mechanism], options: Options) -> type[Mechanism]:
    cls = find_class(mechanism) if isinstance(mechanism, str) else mechanism
    if not (isinstance(cls, type) and issubclass(cls, Mechanism)):
        raise TypeError(f"mechanism: expected a name or a Mechanism class, got {mechanism!r}")
    if chosen := options.keys() & {"device", "dtype"}:
        raise ValueError(f"{' and '.join(sorted(chosen))}: inferred from the model, leave it out")
    return cls


def _maker(
    mechanism: str | type[Mechanism], cls: type[Mechanism], channels: int, options: Options
) -> Callable[[], Mechanism]:
    """Return a function that creates the mechanism, with the channels if it takes them."""
    make = partial(create, mechanism) if isinstance(mechanism, str) else cls
    first = next(iter(inspect.signature(cls).parameters.values()), None)
    sized = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD
    return partial(make, *([channels] if sized else []), **options)


def _geometry(cls: type[Mechanism], old: nn.Conv2d, options: Options) -> Options:
    """Return the arguments of a mechanism that correspond to those of a convolution.

    Raises:
        ValueError: the mechanism has no option for what the convolution does.
    """
    known = inspect.signature(cls).parameters
    plain: Options = {"stride": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
    found = {"out_channels": old.out_channels, "kernel_size": old.kernel_size}
    found |= {"padding": old.padding, "bias": old.bias is not None}
    found |= {name: getattr(old, name) for name in plain}
    found = {name: _single(value) for name, value in found.items()}
    usual = known["kernel_sizes"].default if "kernel_sizes" in known else ()
    kernels = options.get("kernel_sizes", usual)
    if "kernel_size" not in known and found["kernel_size"] not in kernels:
        theirs = f"those of {cls.__name__} are {kernels}" if kernels else f"{cls.__name__} has none"
        raise ValueError(f"its kernel is {found['kernel_size']}, and {theirs}")
    for name, value in plain.items():
        if name not in known and found[name] != value:
            raise ValueError(f"its {name} is {found[name]}, and {cls.__name__} has no {name}")
    half = tuple(d * (k - 1) / 2 for d, k in zip(old.dilation, old.kernel_size, strict=True))
    if "padding" not in known and old.padding not in (half, "same"):
        raise ValueError(
            f"its padding {found['padding']} does not center its kernel {found['kernel_size']}, "
            f"and {cls.__name__} has no padding"
        )
    return {name: value for name, value in found.items() if name in known} | options


def _single(value: Any) -> Any:
    same = isinstance(value, tuple) and len(set(value)) == 1
    return value[0] if same else value


def _dry_run(model: nn.Module, example: Example) -> DryRun:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            "the model is compiled, and would not run a new hook: compile it afterwards"
        )
    return dry_run(model, example)


def _inserted_names(model: nn.Module) -> set[str]:
    """Return the names of what regard inserted, which nothing may follow or replace.

    A replacement itself is excluded: attention may follow it, as it may any convolution.
    """
    parts = {
        part
        for _, child, inserted in inserted_modules(model)
        for part in inserted.modules()
        if child or part is not inserted
    }
    return {name for name, module in model.named_modules() if module in parts}


def _names(model: nn.Module, run: DryRun, at: At, own: set[str], possible: list[str]) -> list[str]:
    """Return the names of the modules that ``at`` chooses."""
    if isinstance(at, str) and at in PRESETS:
        if found := PRESETS[at](run, own):
            return found
        raise ValueError(
            f"{type(model).__name__}: no residual block found for at={at!r}; name the modules, as "
            f"in at='layer*'; there are {listing(possible)}"
        )
    if found := match(at, [(n, m) for n, m in model.named_modules() if n not in own]):
        return found
    presets = ", ".join(PRESETS)
    wanted = at if isinstance(at, str) else ""
    raise ValueError(
        f"{type(model).__name__}: nothing matches at={at!r}; there are "
        f"{listing(possible, wanted)}; and the presets {presets}"
    )


def _plan_each(
    names: Iterable[str],
    plan: Callable[[str], PlannedInsertion],
    cls: type[Mechanism],
    possible: list[str],
) -> list[PlannedInsertion]:
    """Plan an insertion for each name, or raise with the reasons of all that failed."""
    planned: dict[str, PlannedInsertion] = {}
    problems: dict[str, str] = {}
    for name in names:
        try:
            found = plan(name)
            planned.setdefault(found.insertion.path, found)
        except ValueError as e:
            problems[name] = str(e)
    if problems:
        left = [name for name in possible if name not in problems]
        reasons = [f"{name or 'the model'!r}: {reason}" for name, reason in problems.items()]
        more = f"; … and {len(reasons) - 5} more" if len(reasons) > 5 else ""
        raise ValueError(
            f"{cls.__name__} cannot be inserted at {'; '.join(reasons[:5])}{more}. "
            f"There are {listing(left, next(iter(problems)))}"
        )
    return list(planned.values())


def _output(call: Call) -> Value:
    if call.output is None:
        raise ValueError("its output is not a tensor that depends on the input")
    return call.output


def _is_possible(call: Call) -> bool:
    value = call.output
    return (
        value is not None
        and value.dtype.is_floating_point
        and 3 <= len(value.shape) <= 5
        and value.axis is not None
        and not isinstance(call.module, CONTAINERS)
    )


def _try(module: nn.Module, given: Value, wanted: Value) -> None:
    """Run on the meta device, which computes shapes only, and raise if the shape is wrong."""
    x = torch.empty(given.shape, dtype=given.dtype, device="meta")
    try:
        y = module.to(given.dtype).eval()(x)
    except (RuntimeError, IndexError) as e:
        raise ValueError(f"on {given.shape}: {e}") from None
    if not isinstance(y, Tensor) or y.shape != wanted.shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"it would return {got} instead of {wanted.shape}")
