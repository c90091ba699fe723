"""Code that is recorded once, by a compiler or a tracer, and then runs at other sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Marks a function that stays a single call in a traced model, because it reads what the symbols of
# torch.fx lack: sizes, dtypes, memory formats, or whether a gradient is required.
leaf = torch.fx.wrap


def recording() -> bool:
    """Return whether a compiler, an exporter or `torch.jit.trace` records what runs.

    What is recorded must work for every size, so it must not branch on one. torch.fx is no case of
    it: it does not look into a `leaf`.
    """
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def at_least(size: Any, least: int) -> Any:
    """Return a size, or the bound if it is smaller, in a form that can be recorded.

    A size is a number, a symbol of a compiler or of torch.fx, or a tensor under `torch.jit.trace`.
    """
    return size.clamp(min=least) if isinstance(size, Tensor) else torch.sym_max(size, least)
