"""Planning insertions: they are found, checked and counted before anything is built."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..core.attention import Mechanism
from ..core.names import listing
from ..core.text import aligned
from ..factory import create
from ..factory import mechanism as find_class
from .dry_run import DryRun, Example, dry_run
from .grids import Source, is_window, source_of
from .layout import Layout, grid_of, is_flat, names_of, valid
from .outputs import Path
from .places import PRESETS, At, match
from .record import Call, Value
from .site import (
    InsertedAttention,
    Insertion,
    any_order,
    inserted_modules,
    outermost,
    paths,
)
from .wrapper import free_names

Options = dict[str, object]
# What no single place in a model has: said of a class, by the kind on its card.
APART = {
    "pair": "takes two features, and a place in a model has one",
    "pool": "returns one vector for each image or bag, and what follows reads a feature",
    "levels": "takes a pyramid of features, and a place in a model has one",
    "upsampler": "returns a larger image, and what follows reads one of the old size",
}
Planned = tuple[list["PlannedInsertion"], dict[str, str]]  # with the reasons of what is left out


@dataclass(frozen=True)
class PlannedInsertion:
    """An insertion that has been checked, but not built.

    Attributes:
        insertion: Its description.
        build: Returns a new mechanism.
        device: The device of its parameters.
        dtype: The dtype of its parameters.
        grid: Whether tokens are put into the order of their grid.
        source: Where the grid of a pass can be read.
        some_runs: Whether the module also runs with other channels.
    """

    insertion: Insertion
    build: Callable[[], Mechanism]
    device: torch.device
    dtype: torch.dtype
    grid: bool = False
    source: Source | None = None
    some_runs: bool = False


def plan_insertions(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At,
    start: str,
    layout: str | None,
    outputs: Collection[int | str] | None,
    runs: Collection[int] | None,
    example: Example,
    options: Options,
    skip: str | None = None,
) -> Planned:
    """Plan what `regard.insert` does, and raise what it raises."""
    check_skip(skip)
    cls = class_of(mechanism, options)
    kind = kind_of(cls)
    if kind == "convolution":
        raise ValueError(f"{cls.__name__} is a convolution: use regard.replace")
    if kind not in (None, "gate", "relation", "sequence"):
        raise ValueError(f"{cls.__name__} is a {kind}, which cannot be inserted into a network")
    if start not in ("identity", "paper"):
        raise ValueError(f"start must be 'identity' or 'paper', got {start!r}")
    if layout is not None and not valid(layout.split()):
        raise ValueError(
            "layout: expected the names of all axes, b and c among them, such as 'b n c', "
            f"'b h w c' or 'n b c', got {layout!r}"
        )
    run = recorded(model, example)
    own = inserted_names(model)

    def plan(name: str, only: Value | None) -> Iterator[PlannedInsertion]:
        calls = run.of(name)
        if not calls:
            raise ValueError("it did not run in the dry run")
        if runs is not None:
            if not runs or not all(0 <= i < len(calls) for i in runs):
                raise ValueError(f"runs: expected some of 0 to {len(calls) - 1}, got {runs!r}")
            _check_countable(calls)
            calls = [calls[i] for i in sorted(runs)]
        children = free_names(outermost(model, name))
        for path, values in _values(run, calls, only, outputs).items():
            found: dict[Layout, list[Value]] = {}
            for value in values:
                found.setdefault(_layout(run, value, layout), []).append(value)
            channels = {one.channels for one in found}
            if len(channels) < len(found):
                raise ValueError(f"it runs {len(values)} times, with different layouts")
            for one, same in found.items():
                make = maker(mechanism, cls, one, options)
                with torch.device("meta"):
                    built = make()
                    gated = start == "identity" and not built.identity_at_init
                    grid, source = _arrangement(run, same[0], built, one, own)
                    attention = InsertedAttention(built, one, gated=gated, grid=grid)
                for value in same:
                    try_shapes(attention, value, value)
                insertion = attention.describe(name, next(children), path, runs)
                like = same[0].device, same[0].dtype
                yield PlannedInsertion(insertion, make, *like, grid, source, len(found) > 1)

    possible = [c.name for c in run.calls if c.name and _is_possible(c) and c.name not in own]
    names = _names(model, run, at, own, possible)
    return plan_each(names, plan, cls, possible, skip)


def check_skip(skip: str | None) -> None:
    """Raise `ValueError` for an unknown choice."""
    if skip not in (None, "unfit"):
        raise ValueError(f"skip must be None or 'unfit', got {skip!r}")


def _check_countable(calls: list[Call]) -> None:
    """Raise unless all runs of a module are in one pass through the module that it belongs to."""
    owner = calls[0].name.rpartition(".")[0]
    passes = {next((c for c in call.within() if c.name == owner), None) for call in calls}
    if len(passes) > 1 or None in passes:
        raise ValueError(f"runs: its runs are not in one pass through {owner or 'the model'!r}")


def _values(
    run: DryRun, calls: list[Call], only: Value | None, outputs: Collection[int | str] | None
) -> dict[Path, list[Value]]:
    """Return the tensors of a place, by where they are in its output.

    Raises:
        ValueError: there are none, or nothing reads them.
    """
    found: dict[Path, list[Value]] = {}
    is_read: dict[Path, bool] = {}
    for call in calls:
        for path, value in call.outputs.items():
            found.setdefault(path, []).append(value)
            is_read[path] = is_read.get(path, False) or run.is_read(value, call)
    if not found:
        raise ValueError("its output is not a tensor that depends on the input")
    if only is not None:
        found = {path: values for path, values in found.items() if only in values}
    elif outputs is not None:
        chosen = {path: v for path, v in found.items() if path and path[0] in outputs}
        if missing := set(outputs) - {path[0] for path in chosen}:
            there = ", ".join(sorted({repr(path[0]) for path in found if path}))
            raise ValueError(f"it has no output {missing.pop()!r}; outputs: {there or 'only one'}")
        found = chosen
    elif len(found) > 1:
        # Attention weights beside the output of a layer, masks and indices are no features.
        features = {path: v for path, v in found.items() if _is_feature(v[0])}
        found = features or found
    read = {path: values for path, values in found.items() if is_read[path]}
    if not read:
        raise NoFeatures("nothing reads what attention would change there")
    return read


def _is_feature(value: Value) -> bool:
    known = all(axis.name for axis in value.axes)
    without = known and not any(axis.name == "c" for axis in value.axes)
    return value.dtype.is_floating_point and len(value.shape) > 2 and not without


def _layout(run: DryRun, value: Value, given: str | None) -> Layout:
    found = Layout.of(value, given)
    batch = value.axes[found.axes.split().index("b")]
    if given is None and batch.assumed and not run.separate:
        raise ValueError(
            "the model's output for one sample depends on the others, so that axis 0 of its input "
            "is not the batch; pass layout, such as layout='n b c'"
        )
    return found


def _arrangement(
    run: DryRun, value: Value, mechanism: Mechanism, layout: Layout, own: Collection[str]
) -> tuple[bool, Source | None]:
    """Return whether the mechanism gets tokens as a grid, and where that can be read in each pass.

    Raises:
        ValueError: the mechanism needs the grid, and it is unknown.
    """
    pattern = mechanism.axes.input
    if "n" not in layout.axes or is_flat(pattern):
        return False, None
    if not layout.tokens:
        problem = f"its tokens are in groups ({layout})"
    elif not (grid := grid_of(value)):
        problem = f"its tokens ({layout}) have no known grid"
    elif (source := source_of(run, value, grid, own)) or is_window(grid):
        return True, source
    else:
        problem = f"no module returns a tensor with the grid of its tokens ({layout})"
    if any_order(mechanism):
        return False, None
    raise NoFeatures(f"{type(mechanism).__name__} needs ({pattern}), and {problem}")


def kind_of(cls: type[Mechanism]) -> str | None:
    """Return the kind on the card, or None without a card: then any use is tried.

    Raises:
        ValueError: no single place in a model can take it.
    """
    card = getattr(cls, "card", None)
    kind = None if card is None else card.kind if card.plug else "whole model"
    if kind in APART:
        raise ValueError(f"{cls.__name__} {APART[kind]}: write it into the model where it belongs")
    return kind


def class_of(mechanism: str | type[Mechanism], options: Options) -> type[Mechanism]:
    """Return the class of a mechanism; device and dtype are no options of an insertion."""
    cls = find_class(mechanism) if isinstance(mechanism, str) else mechanism
    if not (isinstance(cls, type) and issubclass(cls, Mechanism)):
        raise TypeError(f"mechanism: expected a name or a Mechanism class, got {mechanism!r}")
    if chosen := options.keys() & {"device", "dtype"}:
        raise ValueError(f"{' and '.join(sorted(chosen))}: inferred from the model, leave it out")
    return cls


def maker(
    mechanism: str | type[Mechanism], cls: type[Mechanism], layout: Layout, options: Options
) -> Callable[[], Mechanism]:
    """Return a function that creates the mechanism, with channels and ``dims`` if it takes them."""
    make = partial(create, mechanism) if isinstance(mechanism, str) else cls
    known = inspect.signature(cls).parameters
    first = next(iter(known.values()), None)
    sized = first is not None and first.kind is first.POSITIONAL_OR_KEYWORD
    if "dims" in known and "dims" not in options:
        dims = len(layout.grid) or len(layout.axes.split()) - 2
        options = {**options, "dims": dims}
    return partial(make, *([layout.channels] if sized else []), **options)


def recorded(model: nn.Module, example: Example) -> DryRun:
    """Record a run of a model, if it can be changed afterwards.

    Raises:
        TypeError: it is no module.
        ValueError: it is compiled, scripted or distributed; or no input was found.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if wrapped := _prepared(model):
        raise ValueError(f"the model is {wrapped}: insert attention first, then do that")
    return dry_run(model, example)


def _prepared(model: nn.Module) -> str:
    """Say what was done to a model after which it can be copied or changed no more."""
    if hasattr(model, "_orig_mod"):
        return "compiled"
    if isinstance(model, torch.jit.ScriptModule):
        return "a TorchScript program"
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return "distributed over processes"
    if any(type(p).__name__ in ("DTensor", "FlatParameter") for p in model.parameters()):
        return "sharded over processes"
    return ""


def inserted_names(model: nn.Module) -> set[str]:
    """Return the names of what regard inserted, which nothing may follow or replace.

    A replacement itself is excluded: attention may follow it, as it may any convolution.
    """
    parts = {
        part
        for _, child, inserted in inserted_modules(model)
        for part in inserted.modules()
        if child or part is not inserted
    }
    return {name for name, module in paths(model) if module in parts}


def _names(
    model: nn.Module, run: DryRun, at: At, own: set[str], possible: list[str]
) -> dict[str, Value | None]:
    """Return the names of the modules that ``at`` chooses, and of each the tensor that it means."""
    modules = [(name, m) for name, m in paths(model) if name not in own]
    there = {name for name, _ in modules}
    if isinstance(at, str) and at not in there:
        around, _, preset = at.rpartition(".")
        if preset in PRESETS and (not around or around in there):
            if found := PRESETS[preset](run, own, around):
                return found
            where = f" in {around!r}" if around else ""
            more = {name for name in PRESETS if name != preset and PRESETS[name](run, own, around)}
            others = f"try at={' or '.join(map(repr, sorted(more)))}, or " if more else ""
            what = "residual block" if preset == "residual" else "block"
            raise ValueError(
                f"{type(model).__name__}: no {what} found{where} for at={at!r}; {others}"
                f"name the modules, as in at='layer*'; there are {listing(possible)}"
            )
    if found := match(at, modules):
        return dict.fromkeys(found)
    presets = ", ".join(PRESETS)
    wanted = at if isinstance(at, str) else ""
    raise ValueError(
        f"{type(model).__name__}: nothing matches at={at!r}; there are "
        f"{listing(possible, wanted)}; and the presets {presets}"
    )


class NoFeatures(ValueError):
    """A place where a mechanism would make no sense; among others, it is left out."""


def plan_each(
    names: Mapping[str, Value | None],
    plan: Callable[[str, Value | None], Iterable[PlannedInsertion]],
    cls: type[Mechanism],
    possible: list[str],
    skip: str | None,
) -> Planned:
    """Plan an insertion for each name, or raise with the reasons of all that failed."""
    planned: list[PlannedInsertion] = []
    problems: dict[str, ValueError] = {}
    for name, value in names.items():
        try:
            planned += [*plan(name, value)]
        except ValueError as e:
            problems[name] = e
    if not problems:
        return planned, {}
    reasons = {name or "the model": str(e) for name, e in problems.items()}
    if len(reasons) == 1:
        ((name, reason),) = reasons.items()
        said = f" at {name!r}: {reason}"
    else:
        rows = [("module", "reason"), *reasons.items()]
        said = f" at {len(reasons)} of {len(names)} modules:\n{aligned(rows, left=2)}\n"
    if planned and (skip == "unfit" or all(isinstance(e, NoFeatures) for e in problems.values())):
        warnings.warn(f"{cls.__name__} is left out{said.rstrip()}", stacklevel=4)
        return planned, reasons
    left = [name for name in possible if name not in problems]
    advice = " skip='unfit' leaves these out." if planned else ""
    if left:
        advice += f" There are {listing(left, next(iter(problems)))}"
    end = "." if len(reasons) == 1 else ""
    raise ValueError(f"{cls.__name__} cannot be inserted{said}{end}{advice}")


def output_of(call: Call) -> Value:
    """Return the tensor that a run returned, or raise `ValueError`."""
    if call.output is None:
        raise ValueError("its output is not a tensor that depends on the input")
    return call.output


def _is_possible(call: Call) -> bool:
    return any(
        value.dtype.is_floating_point and valid(names_of(value)) for value in call.outputs.values()
    )


def try_shapes(module: nn.Module, given: Value, wanted: Value) -> None:
    """Run on the meta device, which computes shapes only, and raise if the shape is wrong."""
    x = torch.empty(given.shape, dtype=given.dtype, device="meta")
    try:
        y = module.to(given.dtype).eval()(x)
    except (RuntimeError, IndexError) as e:
        raise ValueError(f"on {given.shape}: {e}") from None
    if not isinstance(y, Tensor) or y.shape != wanted.shape:
        got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"it would return {got} instead of {wanted.shape}")
