"""The runs of a comparison: which are missing, whose turn each is, what each leaves behind."""

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
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import nn

from ..measurement import measure
from .data import Data
from .ledger import Ledger
from .progress import Watch
from .results import Comparison, rows
from .training import Recipe, train
from .variants import Variant, build

RECORDED = ("regard", "torch", "timm")
ROUNDS = 3
SHOWN = 0  # the seed whose weights are kept, to show where they look
WAIT = timedelta(days=30)


@dataclass(frozen=True)
class Runs:
    """All runs of one recipe.

    Attributes:
        recipe: What they have in common.
        data: What they learn.
        folder: Where ledger and weights are.
        accelerate: Makes an accelerator. Each run has its own: a loss scale must not outlive it.
    """

    recipe: Recipe
    data: Data
    folder: Path
    accelerate: Callable[[], Any]
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger", Ledger(self.folder / "results.jsonl"))

    def measure(self, models: Mapping[Variant, nn.Module], device: torch.device) -> None:
        """Add what each variant costs, unless the ledger knows it."""
        known = self.costs()
        new = {variant: model for variant, model in models.items() if variant.key not in known}
        shape = (1, self.recipe.channels, self.recipe.size, self.recipe.size)
        # In turns, so that a machine that is busy for a moment does not slow one variant alone.
        rounds = [
            {v: measure(model.to(device), shape, depth=0) for v, model in new.items()}
            for _ in range(ROUNDS)
        ]
        for variant in new:
            found = [turn[variant] for turn in rounds]
            self.ledger.add(
                "cost",
                variant=variant.key,
                params=found[0].params,
                macs=found[0].macs,
                elementwise=found[0].elementwise,
                latency=min(m.latency.median for m in found if m.latency),
            )

    def costs(self) -> dict[str, dict[str, Any]]:
        """What each variant costs."""
        return {line["variant"]: line for line in self.ledger.read("cost")}

    def finished(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The runs that are over, by variant and seed."""
        return {(line["variant"], line["seed"]): line for line in self.ledger.read("run")}

    def train(self, variants: Sequence[Variant], seeds: Sequence[int], *, quiet: bool) -> None:
        """Train what is missing, as far as it is this process's turn."""
        state = self.accelerate()
        before = self.finished()
        missing = [(v, seed) for seed in seeds for v in variants if (v.key, seed) not in before]
        state.wait_for_everyone()  # else a quick one writes while a slow one still looks
        quiet = quiet or not state.is_main_process

        def done() -> int:
            return len(self.finished()) - len(before)

        with Watch(len(missing), self.recipe.epochs, done, quiet=quiet) as watch:
            if self.ledger.torn and missing:
                watch.say(f"{self.ledger.path}: a run that was cut off while written is done again")
            if (idle := self._idle(state)) and missing:
                watch.say(idle)
            if before and missing:
                watch.say(f"{len(before)} finished runs found, {len(missing)} to go")
            for variant, seed in missing[state.process_index :: state.num_processes]:
                watch.run(f"{variant.label}, seed {seed}")
                watch.over(self.run(variant, seed, watch.epoch))

    def _idle(self, state: Any) -> str:
        """What would make it faster, if there are cores to spare."""
        cores, busy = os.cpu_count() or 1, self.recipe.threads * state.num_processes
        if state.device.type != "cpu" or busy >= cores:
            return ""
        return f"{busy} of {cores} cores will be busy; regard compare --processes {cores} uses all"

    def run(self, variant: Variant, seed: int, tell: Callable[[dict[str, float]], None]) -> float:
        """Do one run, write it down, and return its accuracy."""
        began = time.monotonic()
        accelerator = self.accelerate()
        model, backbone = build(variant, self.recipe, seed)
        curve, batches = train(model, self.data, self.recipe, seed, accelerator, tell)
        if seed == SHOWN:
            self._keep(model, variant)
        self.ledger.add(
            "run",
            variant=variant.key,
            seed=seed,
            accuracy=curve[-1]["accuracy"],
            curve=curve,
            backbone=backbone,
            batches=f"{batches:08x}",
            seconds=round(time.monotonic() - began, 2),
            versions={name: import_module(name).__version__ for name in RECORDED},
        )
        accelerator.free_memory()
        return curve[-1]["accuracy"]

    def _keep(self, model: nn.Module, variant: Variant) -> None:
        path = self.weights(variant)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        save_model(model.to("cpu"), str(part))
        part.replace(path)

    def weights(self, variant: Variant) -> Path:
        """Where the weights of a variant are kept."""
        name = re.sub(r"[^\w.=-]+", "_", variant.key).strip("_")
        return self.folder / "weights" / f"{name}.safetensors"

    def trained(self, variant: Variant) -> nn.Module | None:
        """A variant as it was after its training, if its weights are still there."""
        path = self.weights(variant)
        if not path.exists():
            return None
        model, _ = build(variant, self.recipe, SHOWN)
        load_model(model, str(path))
        return model.eval()

    def gather(self, variants: Sequence[Variant], seeds: Sequence[int]) -> Comparison:
        """Set all that was found side by side."""
        runs, costs = self.finished(), self.costs()
        return Comparison(
            recipe=self.recipe,
            seeds=tuple(seeds),
            rows=rows(variants, seeds, runs, costs),
            runs=tuple(runs[v.key, seed] for v in variants for seed in seeds),
            ledger=self.ledger.path,
            report=self.folder / "report.html",
        )


@contextmanager
def accelerators(device: str | None, precision: str | None) -> Iterator[Callable[[], Any]]:
    """Give what makes accelerators, and leave accelerate as it was found."""
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState, PartialState

    found = bool(PartialState._shared_state)
    make = partial(
        Accelerator,
        # Said, not left to accelerate: else it takes several processes on CPUs for one each.
        cpu=device == "cpu" or (device is None and not torch.accelerator.is_available()),
        mixed_precision=precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT)],
    )
    try:
        gives = make().device.type
        if device not in (None, gives):
            raise ValueError(f'device "{device}" was asked for, but accelerate gives "{gives}"')
        yield make
    finally:
        if not found and PartialState().num_processes == 1:
            # accelerate remembers device and precision for good: the next call may want others
            AcceleratorState._reset_state(reset_partial_state=True)


@contextmanager
def steady(threads: int) -> Iterator[None]:
    """Compute the same twice, and leave torch's settings and random numbers as they were."""
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
