"""Running a model for inspection, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

COMPILED = "_orig_mod"  # the name under which torch.compile stores the module that it wraps


def path_of(name: str) -> str:
    """Return a module's path without the wrappers of torch.compile.

    >>> path_of("layer1._orig_mod.attention")
    'layer1.attention'
    """
    return ".".join(part for part in name.split(".") if part and part != COMPILED)


@contextmanager
def undisturbed(model: nn.Module, *, grad: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards restore its modes and the random state."""
    training = [(module, module.training) for module in model.modules()]
    gpus = {p.device.index for p in model.parameters() if p.is_cuda}
    try:
        for module, _ in training:  # a model may override train(), with further effects
            module.training = False
        with (
            torch.random.fork_rng(gpus),
            torch.inference_mode(False),
            torch.set_grad_enabled(grad),
        ):
            yield
    finally:
        for module, mode in training:
            module.training = mode


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled modules uncompiled, and torch's encoder layers without their fused kernel.

    Otherwise what happens inside them can be neither hooked nor counted.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
