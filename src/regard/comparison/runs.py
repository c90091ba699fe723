"""The runs of a comparison: find the missing ones, divide them among processes, record them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from ..measurement import measure
from .data import Data
from .progress import Progress
from .results import Comparison, make_rows
from .results_log import ResultsLog
from .training import Recipe, train
from .variants import Variant, build

if TYPE_CHECKING:
    from accelerate import Accelerator

RECORDED_LIBRARIES = ("regard", "torch", "timm")
LATENCY_ROUNDS = 3
SHOWN_SEED = 0  # the seed whose weights are saved, to show their attention maps
TIMEOUT = timedelta(days=30)  # for processes that wait for others


@dataclass(frozen=True)
class Runs:
    """All runs of one recipe.

    Attributes:
        recipe: Settings of all runs.
        data: The data set.
        folder: Folder of the results log and the weights.
        make_accelerator: Makes an accelerator for each run, since its loss scale is that of a run.
        log: The results log.
    """

    recipe: Recipe
    data: Data
    folder: Path
    make_accelerator: Callable[[], Accelerator]
    log: ResultsLog = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", ResultsLog(self.folder / "results.jsonl"))

    def measure(self, models: Mapping[Variant, nn.Module], device: torch.device) -> None:
        """Append the cost of each variant to the results log, unless it is there."""
        known = self.costs()
        new = {variant: model for variant, model in models.items() if variant.key not in known}
        shape = (1, self.recipe.channels, self.recipe.size, self.recipe.size)
        # In turns, so that a briefly busy machine does not slow down a single variant.
        rounds = [
            {v: measure(model.to(device), shape, depth=0) for v, model in new.items()}
            for _ in range(LATENCY_ROUNDS)
        ]
        for variant in new:
            found = [results[variant] for results in rounds]
            self.log.append(
                "cost",
                variant=variant.key,
                params=found[0].params,
                macs=found[0].macs,
                elementwise=found[0].elementwise,
                latency=min(m.latency.median for m in found if m.latency),
            )

    def costs(self) -> dict[str, dict[str, Any]]:
        """Return the costs from the results log, by the key of the variant."""
        return {line["variant"]: line for line in self.log.read("cost")}

    def finished_runs(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the finished runs, by the key of the variant and the seed."""
        return {(line["variant"], line["seed"]): line for line in self.log.read("run")}

    def train(self, variants: Sequence[Variant], seeds: Sequence[int], *, quiet: bool) -> None:
        """Train this process's part of the missing runs."""
        state = self.make_accelerator()
        before = self.finished_runs()
        missing = [(v, seed) for seed in seeds for v in variants if (v.key, seed) not in before]
        state.wait_for_everyone()  # else a fast process writes before a slow one has read
        quiet = quiet or not state.is_main_process

        def count_finished() -> int:
            return len(self.finished_runs()) - len(before)

        with Progress(len(missing), self.recipe.epochs, count_finished, quiet=quiet) as progress:
            if self.log.num_truncated and missing:
                progress.print(f"{self.log.path}: repeating a run whose line is incomplete")
            if (hint := self._idle_cores_hint(state)) and missing:
                progress.print(hint)
            if before and missing:
                progress.print(f"{len(before)} finished runs found, {len(missing)} to go")
            for variant, seed in missing[state.process_index :: state.num_processes]:
                progress.start_run(f"{variant.label}, seed {seed}")
                progress.end_run(self.run(variant, seed, progress.end_epoch))

    def _idle_cores_hint(self, state: Accelerator) -> str:
        """Return a hint if the comparison would leave cores idle, otherwise an empty text."""
        cores, busy = os.cpu_count() or 1, self.recipe.threads * state.num_processes
        if state.device.type != "cpu" or busy >= cores:
            return ""
        return f"{busy} of {cores} cores will be busy; regard compare --processes {cores} uses all"

    def run(
        self, variant: Variant, seed: int, on_epoch: Callable[[dict[str, float]], None]
    ) -> float:
        """Train one run, append it to the results log, and return its accuracy."""
        started = time.monotonic()
        accelerator = self.make_accelerator()
        model, backbone = build(variant, self.recipe, seed)
        curve, batches = train(model, self.data, self.recipe, seed, accelerator, on_epoch)
        if seed == SHOWN_SEED:
            self._save_weights(model, variant)
        self.log.append(
            "run",
            variant=variant.key,
            seed=seed,
            accuracy=curve[-1]["accuracy"],
            curve=curve,
            backbone=backbone,
            batches=f"{batches:08x}",
            seconds=round(time.monotonic() - started, 2),
            versions={name: import_module(name).__version__ for name in RECORDED_LIBRARIES},
        )
        accelerator.free_memory()
        return curve[-1]["accuracy"]

    def _save_weights(self, model: nn.Module, variant: Variant) -> None:
        path = self.weights_path(variant)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        save_model(model.to("cpu"), str(part))
        part.replace(path)

    def weights_path(self, variant: Variant) -> Path:
        """Return the path of the weights of a variant."""
        name = re.sub(r"[^\w.=-]+", "_", variant.key).strip("_")
        return self.folder / "weights" / f"{name}.safetensors"

    def load_trained(self, variant: Variant) -> nn.Module | None:
        """Return a variant with its trained weights, or None if their file does not exist."""
        path = self.weights_path(variant)
        if not path.exists():
            return None
        model, _ = build(variant, self.recipe, SHOWN_SEED)
        load_model(model, str(path))
        return model.eval()

    def gather(self, variants: Sequence[Variant], seeds: Sequence[int]) -> Comparison:
        """Collect the results of all runs."""
        runs, costs = self.finished_runs(), self.costs()
        return Comparison(
            recipe=self.recipe,
            seeds=tuple(seeds),
            rows=make_rows(variants, seeds, runs, costs),
            runs=tuple(runs[v.key, seed] for v in variants for seed in seeds),
            results_path=self.log.path,
            report=self.folder / "report.html",
        )


@contextmanager
def accelerator_factory(
    device: str | None, precision: str | None
) -> Iterator[Callable[[], Accelerator]]:
    """Yield a function that makes accelerators; reset accelerate's global state on exit."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, PartialState

    initialized = bool(PartialState._shared_state)
    make = partial(
        Accelerator,
        # Explicit, because otherwise accelerate treats each of several CPU processes as alone.
        cpu=device == "cpu" or (device is None and not torch.accelerator.is_available()),
        mixed_precision=precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
    )
    try:
        found = make().device.type
        if device not in (None, found):
            raise ValueError(f'device must be "{found}", which accelerate uses, got "{device}"')
        yield make
    finally:
        if not initialized and PartialState().num_processes == 1:
            # accelerate keeps device and precision, but the next call may need others.
            AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Make computations reproducible; restore torch's settings and random state on exit."""
    before = torch.get_num_threads()
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        torch.set_num_threads(threads)
        with (
            torch.random.fork_rng(gpus),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            yield
    finally:
        torch.set_num_threads(before)
