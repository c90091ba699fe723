"""When two results are the same: one table of tolerances, one comparison for tensors and tuples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Relative error of an element, and absolute error as a part of the largest element.
TOLERANCE = {
    torch.float64: (1e-9, 1e-12),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (5e-2, 5e-2),
}


def flat(result: Any) -> list[Tensor]:
    """The tensors of a result: itself, or the items of a tuple."""
    return [result] if isinstance(result, Tensor) else [t for item in result for t in flat(item)]


def assert_same(
    got: Any,
    want: Any,
    what: str = "output",
    *,
    dtype: torch.dtype = torch.float64,
    rtol: float | None = None,
) -> None:
    """Fail, saying where and by how much, unless both hold the same numbers."""
    ours, theirs = flat(got), flat(want)
    assert len(ours) == len(theirs), f"{what}: {len(ours)} tensors, wanted {len(theirs)}"
    relative, absolute = TOLERANCE[dtype]
    relative = relative if rtol is None else rtol
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        name = what if len(ours) == 1 else f"{what}.{i}"
        assert a.shape == b.shape, f"{name}: shape {tuple(a.shape)}, wanted {tuple(b.shape)}"
        if not b.numel():
            continue
        a, b = a.detach().double(), b.detach().double()
        assert a.isfinite().all() and b.isfinite().all(), f"{name}: not finite"
        error = (a - b).abs()
        excess = error - relative * b.abs() - absolute * b.abs().max()
        assert excess.max() <= 0, (
            f"{name}: largest error {error.max():.3g} beside values up to {b.abs().max():.3g}"
        )


def same(got: Any, want: Any) -> bool:
    """Whether both hold the same numbers, in double precision."""
    try:
        assert_same(got, want)
    except AssertionError:
        return False
    return True
