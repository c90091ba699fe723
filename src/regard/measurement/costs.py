"""What a model costs, as a table: by module, and against the size of its input."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .meter import peak_memory, run, undisturbed


def si(number: float, unit: str = "") -> str:
    """Write a quantity with four digits and a prefix.

    >>> si(4089184256), si(25557032, "B"), si(512)
    ('4.089 G', '25.56 MB', '512')
    """
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:#.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}".rstrip()


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Set rows of text in columns: the first ``left`` to the left, numbers to the right.

    >>> print(aligned([("path", "macs"), ("stem", "5")]))
    path  macs
    stem     5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


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
    """What one module costs, with all inside it.

    Attributes:
        path: Where it is in the model; the model itself is ``""``.
        module: Its class.
        params: Its parameters, each counted once.
        macs: Multiply-accumulates of convolutions and matrix products.
        elementwise: All other operations: one for each element written, or read by a reduction.
        memory: Most bytes of activations that were alive at once, since it was called.
    """

    path: str
    module: str
    params: int
    macs: int
    elementwise: int
    memory: int


@dataclass(frozen=True)
class Measurement:
    """What a model costs for one input.

    Attributes:
        model: Its class.
        input: Shapes of the inputs.
        device: Where it ran.
        params: As in `Cost`, for the whole model; so are ``macs``, ``elementwise`` and ``memory``.
        macs: MACs.
        elementwise: Other operations.
        memory: Peak of the activations without gradients, in bytes.
        memory_kept: Activations that stay for the backward pass, the output among them.
        latency: None where it was not asked for or cannot be had.
        modules: One row for each module that costs anything, outer ones first.
        uncounted: Operators whose work nobody knows; it is missing from the counts.
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

    def table(self) -> str:
        """The measurement as text, one line for each module."""
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
        shapes = ", ".join(" × ".join(map(str, shape)) for shape in self.input)
        lines = [
            f"{self.model} on {shapes} ({self.device})",
            aligned([head, *rows], left=2),
            f"kept for the backward pass: {si(self.memory_kept, 'B')}",
        ]
        if self.latency:
            lines.append(f"latency: {self.latency}, threads: {self.latency.threads}")
        if self.uncounted:
            lines.append(f"not counted, no formula: {', '.join(self.uncounted)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The measurement as plain data."""
        return asdict(self)

    def to_json(self) -> str:
        """The measurement as JSON."""
        return json.dumps(self.to_dict(), indent=2)


def _timed(model: nn.Module, inputs: Sequence[Any], least: float) -> Latency:
    from torch.utils.benchmark import Timer  # loads the tools of C++ extensions

    threads = torch.get_num_threads()
    scope = {"model": model, "inputs": inputs}
    timer = Timer("model(*inputs)", globals=scope, num_threads=threads)
    with undisturbed(model):
        once = timer.timeit(2).median  # so that a slow model runs more than once or twice
        times = timer.blocked_autorange(min_run_time=max(least, 5 * once))
    runs = times.number_per_run * len(times.raw_times)
    return Latency(times.median, times.iqr, runs, threads)


def _home(model: nn.Module) -> Tensor:
    """A tensor that lives where the model does and has its type."""
    floats = (t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point())
    return next(floats, torch.empty(0))


def _inputs(given: Any, home: Tensor, device: str | torch.device | None) -> tuple[Any, ...]:
    """The tensors to run on, made up where only a shape is given."""
    single = isinstance(given, Tensor) or all(isinstance(size, int) for size in given)
    where = home.device if device is None else device
    source = torch.Generator().manual_seed(0)

    def make(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x.detach().clone().to(device)
        if torch.device(where).type == "meta":
            return torch.empty(tuple(x), device="meta", dtype=home.dtype)
        return torch.randn(tuple(x), generator=source).to(where, home.dtype)

    return tuple(make(x) for x in ((given,) if single else given))


def measure(
    model: nn.Module,
    input: Tensor | Sequence[Any] = (1, 3, 224, 224),
    *,
    device: str | torch.device | None = None,
    latency: bool = True,
    depth: int | None = None,
) -> Measurement:
    """Measure parameters, MACs, other work, activation memory and latency.

    The model runs in evaluation mode and is left as it was. Counts are those of the modules as they
    are written: compiled ones run uncompiled, torch's encoder layers without their fast path.
    Latency is that of the model as it is given.

    Args:
        model: Any module, compiled or not.
        input: A tensor, a shape, or a tuple of either where the model takes several.
        device: Measure a copy of the model there; ``"meta"`` counts without computing anything.
        latency: Measure the time too; takes some seconds where the model is slow.
        depth: How deep the rows go; 1 gives the model and its children, None everything.

    Raises:
        ValueError: the depth is negative.

    >>> m = measure(nn.Conv2d(3, 8, 3), (1, 3, 10, 10), latency=False)
    >>> m.params, m.macs
    (224, 13824)
    """
    if depth is not None and depth < 0:
        raise ValueError(f"depth must be zero or more, got {depth}")
    if device is not None:
        model = deepcopy(model).to(device)
    home = _home(model)
    inputs = _inputs(input, home, device)
    forward = run(model, inputs)
    on = next((x.device for x in inputs if isinstance(x, Tensor)), home.device)
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
        input=tuple(tuple(x.shape) for x in inputs if isinstance(x, Tensor)),
        device=str(on),
        params=rows[0].params,
        macs=rows[0].macs,
        elementwise=rows[0].elementwise,
        memory=rows[0].memory,
        memory_kept=peak_memory(model, *inputs, backward=True),
        latency=_timed(model, inputs, 0.5) if latency and on.type != "meta" else None,
        modules=tuple(rows),
        uncounted=tuple(sorted(forward.uncounted)),
    )


@dataclass(frozen=True)
class Scaling:
    """What a model costs at several sizes of its input."""

    measurements: tuple[Measurement, ...]

    def growth(self, quantity: str) -> float:
        """The power of the number of positions with which a cost grows: 1 is linear.

        Args:
            quantity: ``macs``, ``elementwise``, ``memory`` or ``memory_kept``.
        """
        n = torch.tensor([math.prod(m.input[0][2:]) for m in self.measurements]).double().log()
        y = torch.tensor([getattr(m, quantity) for m in self.measurements]).double().log()
        n, y = n - n.mean(), y - y.mean()
        return float(n @ y / (n @ n))

    def table(self) -> str:
        """The costs as text, one line for each size, and below them the powers of growth."""
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
        return aligned([head, *rows, ("growth", *powers, "")])

    def to_dict(self) -> dict[str, Any]:
        """The costs as plain data."""
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
        model: Any module that takes them.
        sizes: Sides of a square image, or heights and widths.
        leading: The axes before: batch and channels.
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
