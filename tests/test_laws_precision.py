"""How near results in half precision are to exact ones, for small values and for large ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cases import SCALE, Case, draw, law, watched
from closeness import flat
from regard.core.attention import Tap

SPREADS = (1, 10, 100)  # standard deviations of the input
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = {"b": 2, "h": 7, "w": 7, "l": 49, "n": 49, "m": 49}
LARGE = {"b": 1, "h": 64, "w": 64, "l": 4096, "n": 1024, "m": 1000}


@contextmanager
def peaks(module: nn.Module) -> Iterator[list[float]]:
    """Note the largest entry of what each layer takes and returns."""
    found: list[float] = []

    def note(layer: nn.Module, args: Any, y: Any) -> None:
        tensors = [t for t in tree_leaves((args, y)) if isinstance(t, Tensor) and t.numel()]
        found.extend(t.abs().max().item() for t in tensors)

    # Not on the taps: a tap that is watched makes a mechanism build its map.
    layers = [layer for layer in module.modules() if not isinstance(layer, Tap)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def error(got: Any, want: list[Tensor]) -> float:
    """The largest error, as a part of the largest entry; infinite, if a result is not finite."""
    pairs = [(a.cpu().double(), b) for a, b in zip(flat(got), want, strict=True)]
    if not all(a.isfinite().all() for a, _ in pairs):
        return torch.inf
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-30)).item() for a, b in pairs)


def errors(
    case: Case,
    dtype: torch.dtype,
    spread: float,
    sizes: Mapping[str, int],
    watch: bool = True,
    device: str = "cpu",
) -> dict[str, float]:
    """The errors of a module in half precision, with the tap watched, and under autocast.

    The exact result is that of the same rounded weights and inputs on the CPU. Nothing is asked
    where a layer takes or returns, in exact arithmetic, numbers that the type does not have.
    """
    torch.manual_seed(0)
    module = case.module(torch.float32).to(dtype)
    inputs = tuple((x * (spread / SCALE)).to(dtype) for x in draw(module, **sizes))
    exact = copy.deepcopy(module).double()
    with torch.no_grad():
        with peaks(exact) as largest:
            want = flat(exact(*(x.double() for x in inputs)))
        if max(largest) > torch.finfo(dtype).max:
            return {}
        module, inputs = module.to(device), tuple(x.to(device) for x in inputs)
        found = {"half": error(module(*inputs), want)}
        if watch:
            with watched(module):
                found["watched"] = error(module(*inputs), want)
        single = copy.deepcopy(module).float()
        with torch.autocast(device, dtype):
            found["autocast"] = error(single(*(x.float() for x in inputs)), want)
    return found


def check(
    case: Case,
    sizes: Mapping[str, int],
    watch: bool = True,
    device: str = "cpu",
    slack: float = 1.0,
) -> None:
    doc = case.cls.__doc__ or ""
    if case.claims.rounding.reason:
        assert "half precision" in doc or "bfloat16" in doc, "its docstring does not say so"
    for name, dtype in HALF.items():
        for spread, bound in zip(SPREADS, getattr(case.claims.rounding, name), strict=True):
            bound *= slack
            for how, found in errors(case, dtype, spread, sizes, watch, device).items():
                assert found <= bound, (
                    f"{name}, {how}, inputs of size {spread}: off by {found:.2%}, not {bound:.0%}"
                )


@law(costly=True)
def test_half_precision_holds_for_large_values(case: Case) -> None:
    """Sums and squares do not overflow, nor lose their digits."""
    check(case, SMALL)


@law(once=True, slow=True)
def test_half_precision_holds_on_large_images(case: Case) -> None:
    check(case, LARGE, watch=False)
