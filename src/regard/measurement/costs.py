"""Tables of the costs of a model: by module, and by size of the input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..core.text import aligned, html_table, si
from ..core.watching import undisturbed
from .meter import run


@dataclass(frozen=True)
class Latency:
    """Seconds of one call in evaluation mode: the median and the interquartile range."""

    median: float
    iqr: float
    runs: int
    threads: int

    def __str__(self) -> str:
        return f"{self.median * 1e3:.4g} ms ± {self.iqr * 1e3:.2g} (IQR of {self.runs} runs)"


@dataclass(frozen=True)
class Cost:
    """The costs of one module, including its children.

    Attributes:
        path: Its path in the model; the model itself is ``""``.
        module: Its class.
        params: Number of its parameters, each counted once.
        macs: Multiply-accumulates of convolutions and matrix products.
        elementwise: All other operations: one for each element written, or read by a reduction.
        memory: Peak, in bytes, of the activations that were allocated since it was called.
    """

    path: str
    module: str
    params: int
    macs: int
    elementwise: int
    memory: int


@dataclass(frozen=True, repr=False)
class Measurement:
    """The costs of a model for one input.

    Attributes:
        model: Its class.
        input: Shapes of the inputs.
        device: The device that it ran on.
        params: As in `Cost`, for the whole model; so are ``macs``, ``elementwise`` and ``memory``.
        macs: MACs.
        elementwise: Other operations.
        memory: Peak of the activations without gradients, in bytes.
        memory_kept: Bytes of activations kept for the backward pass, including the output.
        latency: None if not requested, or on the meta device.
        modules: One row for each module with costs, outer ones first.
        uncounted: Operators without a formula, which are missing from the counts.
    """

    model: str
    input: tuple[tuple[int, ...], ...]
    device: str
    params: int
    macs: int
    elementwise: int
    memory: int
    memory_kept: int
    latency: Latency | None
    modules: tuple[Cost, ...]
    uncounted: tuple[str, ...]

    def __repr__(self) -> str:
        total = f"{si(self.params)} parameters, {si(self.macs)} MACs, {si(self.memory, 'B')}"
        return f"<Measurement {self._title()}: {total}>"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=2, caption=self._title())

    def _title(self) -> str:
        shapes = ", ".join(" × ".join(map(str, shape)) for shape in self.input)
        return f"{self.model} on {shapes} ({self.device})"

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("module", "class", "params", "MACs", "elementwise", "memory")
        rows = [
            (
                "  " * row.path.count(".") + row.path or "(all)",
                row.module,
                si(row.params),
                si(row.macs),
                si(row.elementwise),
                si(row.memory, "B"),
            )
            for row in self.modules
        ]
        return [head, *rows]

    def table(self) -> str:
        """Return the measurement as text, one line for each module."""
        lines = [
            self._title(),
            aligned(self._rows(), left=2),
            f"kept for the backward pass: {si(self.memory_kept, 'B')}",
        ]
        if self.latency:
            lines.append(f"latency: {self.latency}, threads: {self.latency.threads}")
        if self.uncounted:
            lines.append(f"not counted, no formula: {', '.join(self.uncounted)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as plain data."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the measurement as JSON."""
        return json.dumps(self.to_dict(), indent=2)


def _timed(
    model: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], least: float
) -> Latency:
    from torch.utils.benchmark import Timer  # slow to import: it loads tools for C++ extensions

    threads = torch.get_num_threads()
    scope = {"model": model, "inputs": inputs, "named": named}
    timer = Timer("model(*inputs, **named)", globals=scope, num_threads=threads)
    with undisturbed(model):
        once = timer.timeit(2).median
        # Five times that, so that a slow model runs more than once or twice.
        times = timer.blocked_autorange(min_run_time=max(least, 5 * once))
    runs = times.number_per_run * len(times.raw_times)
    return Latency(times.median, times.iqr, runs, threads)


def _example_of(model: nn.Module) -> Tensor:
    """Return a tensor with the device and the dtype of the model."""
    floats = (t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    return next(floats, torch.empty(0))


def _tensors(inputs: Sequence[Any], like: Tensor, device: str | torch.device | None) -> list[Any]:
    """Return the inputs as tensors, random ones for shapes."""
    source = torch.Generator().manual_seed(0)
    found = []
    for x in inputs:
        leaves = tree_leaves(x)
        if leaves and all(isinstance(leaf, Tensor) for leaf in leaves):
            found.append(tree_map(lambda leaf: leaf.detach().clone().to(device), x))
        elif not isinstance(x, Sequence) or not all(isinstance(size, int) for size in x):
            raise TypeError(
                f"inputs: expected tensors or shapes, one after the other, got {type(x).__name__}"
            )
        else:
            found.append(_random(x, like, device, source))
    return found


def _named(
    inputs: Mapping[str, Any], like: Tensor, device: str | torch.device | None
) -> dict[str, Any]:
    """Return keyword arguments: tensors, random ones for shapes, and other things as they are."""
    source = torch.Generator().manual_seed(0)

    def made(x: Any) -> Any:
        if isinstance(x, (tuple, list)) and x and all(type(size) is int for size in x):
            return _random(x, like, device, source)
        return tree_map(
            lambda leaf: leaf.detach().clone().to(device) if isinstance(leaf, Tensor) else leaf, x
        )

    return {name: made(x) for name, x in inputs.items()}


def _random(
    shape: Sequence[int],
    like: Tensor,
    device: str | torch.device | None,
    source: torch.Generator,
) -> Tensor:
    target = like.device if device is None else torch.device(device)
    if target.type == "meta":
        return torch.empty(tuple(shape), device="meta", dtype=like.dtype)
    return torch.randn(tuple(shape), generator=source).to(target, like.dtype)


def measure(
    model: nn.Module,
    *inputs: Tensor | Sequence[Any] | Mapping[str, Any],
    device: str | torch.device | None = None,
    latency: bool = True,
    depth: int | None = None,
    **named: Any,
) -> Measurement:
    """Measure parameters, MACs, other operations, activation memory and latency.

    The model runs in evaluation mode and is not changed. For the counts, compiled modules run
    uncompiled, and torch's encoder layers without their fast path; for the latency, the model runs
    unchanged.

    Args:
        model: Any module, compiled or not.
        inputs: Inputs of the model, each a tensor or a shape, or a list or dictionary of tensors;
            ``(1, 3, 224, 224)`` by default. A single dictionary has keyword arguments, as for
            `regard.insert`.
        device: Measure a copy of the model on this device; ``"meta"`` counts without computing.
        latency: Measure the latency too, which takes some seconds for a slow model.
        depth: Depth of the rows: 1 for the model and its children, None for all modules.
        named: Keyword arguments of the model: tensors or shapes, such as
            ``pixel_values=(1, 3, 224, 224)``, or anything else.

    Raises:
        ValueError: the depth is negative.
        TypeError: an input is neither a tensor nor a shape.

    >>> m = measure(nn.Conv2d(3, 8, 3), (1, 3, 10, 10), latency=False)
    >>> m.params, m.macs
    (224, 13824)
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth must be zero or more, got {depth}")
    if device is not None:
        model = deepcopy(model).to(device)
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        inputs, named = (), {**inputs[0], **named}
    like = _example_of(model)
    args = _tensors(inputs or (() if named else ((1, 3, 224, 224),)), like, device)
    kwargs = _named(named, like, device)
    forward = run(model, args, kwargs)
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    on = tensors[0].device if tensors else like.device
    rows = []
    for module, path in forward.paths.items():
        level = path.count(".") + 1 if path else 0
        if depth is not None and level > depth:
            continue
        tally = forward.tallies[path]
        params = sum(p.numel() for p in module.parameters())
        if path == "" or params or tally.macs or tally.elementwise or tally.memory:
            costs = (params, tally.macs, tally.elementwise, tally.memory)
            rows.append(Cost(path, type(module).__name__, *costs))
    return Measurement(
        model=rows[0].module,
        input=tuple(tuple(x.shape) for x in tensors),
        device=str(on),
        params=rows[0].params,
        macs=rows[0].macs,
        elementwise=rows[0].elementwise,
        memory=rows[0].memory,
        memory_kept=run(model, args, kwargs, grad=True).kept,
        latency=_timed(model, args, kwargs, 0.5) if latency and on.type != "meta" else None,
        modules=tuple(rows),
        uncounted=tuple(sorted(forward.uncounted)),
    )


@dataclass(frozen=True, repr=False)
class Scaling:
    """The costs of a model at several sizes of its input."""

    measurements: tuple[Measurement, ...]

    def growth(self, quantity: str) -> float:
        """Return the exponent with which a cost grows in the number of positions: 1 is linear.

        Args:
            quantity: ``macs``, ``elementwise``, ``memory`` or ``memory_kept``.
        """
        n = torch.tensor([math.prod(m.input[0][2:]) for m in self.measurements]).double().log()
        y = torch.tensor([getattr(m, quantity) for m in self.measurements]).double().log()
        n, y = n - n.mean(), y - y.mean()
        return float(n @ y / (n @ n))

    def __repr__(self) -> str:
        return f"Scaling of {self.measurements[0].model}\n{self.table()}"

    def _repr_html_(self) -> str:
        return html_table(self._rows())

    def table(self) -> str:
        """Return the costs as text, one line for each size, and a line with the exponents."""
        return aligned(self._rows())

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("size", "MACs", "elementwise", "memory", "kept", "latency")
        quantities = {"macs": "", "elementwise": "", "memory": "B", "memory_kept": "B"}
        rows = [
            (
                " × ".join(map(str, m.input[0][2:])),
                *(si(getattr(m, q), unit) for q, unit in quantities.items()),
                f"{m.latency.median * 1e3:.4g} ms" if m.latency else "",
            )
            for m in self.measurements
        ]
        powers = [
            f"n^{self.growth(q):.2f}" if getattr(self.measurements[0], q) else ""
            for q in quantities
        ]
        return [head, *rows, ("growth", *powers, "")]

    def to_dict(self) -> dict[str, Any]:
        """Return the costs as plain data."""
        return asdict(self)


def scaling(
    model: nn.Module,
    sizes: Sequence[int | tuple[int, ...]] = (128, 192, 256, 320),
    *,
    leading: Sequence[int] = (1, 3),
    device: str | torch.device | None = None,
    latency: bool = True,
) -> Scaling:
    """Measure a model at several sizes of its input.

    Args:
        model: Any module that accepts these sizes.
        sizes: Sides of a square image, or heights and widths.
        leading: Sizes of the axes before: batch and channels.
        device: As for `measure`.
        latency: As for `measure`.

    Raises:
        ValueError: fewer than two sizes are given.

    >>> scaling(nn.Conv2d(3, 8, 1), (16, 32), device="meta").growth("macs")
    1.0
    """
    if len(sizes) < 2:
        raise ValueError(f"scaling needs at least two sizes, got {tuple(sizes)}")
    shapes = [(*leading, *((s, s) if isinstance(s, int) else s)) for s in sizes]
    options = {"device": device, "latency": latency, "depth": 0}
    return Scaling(tuple(measure(model, shape, **options) for shape in shapes))
