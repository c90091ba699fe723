"""Running a model for inspection, without changing it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

COMPILED = "_orig_mod"  # the name under which torch.compile stores the module that it wraps
HOST = "_attended"  # the name under which regard.insert stores the module that it wraps


def path_of(name: str) -> str:
    """Return a module's path without the wrappers of torch.compile and `regard.insert`.

    >>> path_of("_orig_mod.layer1._attended.0.attention")
    'layer1.0.attention'
    """
    return ".".join(part for part in name.split(".") if part and part not in (COMPILED, HOST))


_LOCK = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Let other threads wait that inspect a model too.

    For what inspection changes for a moment belongs to the process: whether functions that are
    compiled run compiled, and the random state.
    """
    with _LOCK:
        yield


def sharing_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model that shares its parameters, and nothing else that can be changed.

    Its modes can be set and hooks registered on it while other threads use the model. A model that
    cannot be copied is returned itself.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()}
    try:
        return copy.deepcopy(model, shared)
    except Exception:  # a file, a lock or a tensor with a graph, as an attribute of some module
        return model


@contextmanager
def undisturbed(model: nn.Module, *, grad: bool = False) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards restore modes, buffers and the random state."""
    training = [(module, module.training) for module in model.modules()]
    # Observers of quantization write into their buffers in any mode.
    buffers = [
        (
            module,
            {n: (x, x._version, x.clone()) for n, x in module._buffers.items() if _is_plain(x)},
        )
        for module in model.modules()
    ]
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
        with torch.no_grad():
            for module, old in buffers:
                _restore(module, old)


def _is_plain(buffer: torch.Tensor | None) -> bool:
    return buffer is not None and not buffer.is_inference()


def _restore(module: nn.Module, buffers: dict[str, tuple[torch.Tensor, int, torch.Tensor]]) -> None:
    """Put back the buffers that a run exchanged, and the contents of those that it changed."""
    for name, (buffer, version, old) in buffers.items():
        module._buffers[name] = buffer
        if buffer._version != version:
            buffer.resize_(old.shape).copy_(old)


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
