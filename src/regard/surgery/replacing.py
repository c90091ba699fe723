"""Planning replacements of convolutions: what takes over their sizes, strides and padding."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..core.attention import Mechanism
from ..core.names import listing
from .dry_run import Example
from .layout import Layout
from .places import At, match
from .planning import (
    Options,
    Planned,
    PlannedInsertion,
    check_skip,
    class_of,
    inserted_names,
    kind_of,
    maker,
    output_of,
    plan_each,
    recorded,
    try_shapes,
)
from .record import Value
from .site import Replacement, outermost, paths
from .wrapper import innermost


def plan_replacements(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At,
    example: Example,
    options: Options,
    skip: str | None = None,
) -> Planned:
    """Plan what `regard.replace` does, and raise what it raises."""
    check_skip(skip)
    cls = class_of(mechanism, options)
    kind = kind_of(cls)
    if kind not in (None, "convolution"):
        raise ValueError(f"{cls.__name__} is a {kind}: use regard.insert")
    run = recorded(model, example)
    own = inserted_names(model)

    def plan(path: str, _: Value | None) -> Iterator[PlannedInsertion]:
        convolution = innermost(outermost(model, path))
        if not isinstance(convolution, nn.Conv2d) or not path:
            raise ValueError(f"it is a {type(convolution).__name__}, no Conv2d of a model")
        calls = [call for call in run.of(path) if call.given]
        if not calls:
            raise ValueError("it did not run in the dry run")
        layout = Layout.of(calls[0].given[0])
        build = maker(mechanism, cls, layout, _geometry(cls, convolution, options))
        with torch.device("meta"):
            replacement = Replacement(build(), convolution, layout)
        for call in calls:
            try_shapes(replacement, call.given[0], output_of(call))
        given = calls[0].given[0]
        yield PlannedInsertion(replacement.describe(path, ""), build, given.device, given.dtype)

    modules = [(name, m) for name, m in paths(model) if name not in own]
    possible = [name for name, m in modules if isinstance(m, nn.Conv2d) and run.of(name)]
    if not (names := match(at, modules)):
        raise ValueError(f"nothing matches at={at!r}; convolutions: {listing(possible, str(at))}")
    return plan_each(dict.fromkeys(names), plan, cls, possible, skip)


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
