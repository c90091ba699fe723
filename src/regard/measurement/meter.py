"""Counts MACs, other operations and bytes of activations while a model runs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from ..core.attention import Tap
from ..core.watching import COMPILED, path_of, uncompiled, undisturbed


def _attention(out: Any, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[int, int]:
    scores = math.prod(q.shape[:-1]) * k.shape[-2]
    return scores * (q.shape[-1] + v.shape[-1]), scores


def _deform(out: Tensor, x: Tensor, weight: Tensor, *_: Any) -> tuple[int, int]:
    sampled = out.numel() // out.shape[1] * x.shape[1] * math.prod(weight.shape[2:])
    return out.numel() * weight[0].numel(), sampled


def _recur(out: Any, x: Tensor, *weights: Any) -> tuple[int, int]:
    matrices = [w for w in tree_leaves(weights[:4]) if isinstance(w, Tensor) and w.dim() == 2]
    steps = x.numel() // x.shape[-1]
    return steps * sum(w.numel() for w in matrices), steps * sum(w.shape[0] for w in matrices)


# MACs and other operations of products for which some version of torch's counter has no formula.
PRODUCTS: dict[str, Callable[..., tuple[int, int]]] = {
    "torchvision::deform_conv2d": _deform,
    "aten::mkldnn_rnn_layer": _recur,
    "aten::_cudnn_rnn": _recur,
    "aten::mv": lambda out, a, x: (a.numel(), 0),
    "aten::addmv": lambda out, y, a, x, **_: (a.numel(), 0),
    "aten::dot": lambda out, a, x: (a.numel(), 0),
    "aten::_addmm_activation": lambda out, y, a, b, **_: (a.numel() * b.shape[1], out.numel()),
    "aten::_trilinear": lambda out, x, w, y, *_: (x.shape[0] * w.numel(), 0),
    "aten::_cdist_forward": lambda out, x, y, *_: (out.numel() * x.shape[-1], 0),
}

# These copy numbers and compute nothing.
MOVES = re.compile(
    r"\w+_like|new_\w+|empty\w*|fill_?|zero_|\w*copy_?|clone|contiguous|lift_fresh|_unsafe_view|"
    r"cat|stack|repeat\w*|roll|flip|tril|triu|diag_embed|\w+_pad(_nd|\dd)|im2col|"
    r"index(_put_?)?|(index_|masked_)?select|(select_|slice_)?scatter|gather|take|embedding|"
    r"\w*(pixel|channel)_(un)?shuffle|nonzero|_local_scalar_dense"
)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _elementwise(name: str, func: Any, args: tuple, out: Any) -> int:
    """Count one operation for each element written, or read if there are more of these."""
    sources, results = _tensors(args), _tensors(out)
    views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    if views or not sources or not results or MOVES.fullmatch(name):
        return 0
    written = max(t.numel() for t in results)
    if name.startswith(("grid_sampler", "upsample", "_upsample")):
        return written
    if name.startswith(("avg_pool", "max_pool")):
        return written * math.prod(args[1])
    return max(written, *(t.numel() for t in sources))


@dataclass
class Tally:
    """The costs of one module so far."""

    macs: int = 0
    elementwise: int = 0
    memory: int = 0


class Meter(TorchDispatchMode):
    """Counts the operations and the memory of a model that runs inside the ``with`` block.

    A storage is an activation if an operation returns it before any has read it; it counts until
    nothing refers to it. This excludes parameters, buffers and inputs, and also the temporary
    memory inside an operation.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.paths = {
            module: path_of(name)
            for name, module in model.named_modules()
            if COMPILED not in module._modules
        }
        self.tallies = {path: Tally() for path in self.paths.values()}
        self.uncounted: set[str] = set()
        self.live = self.kept = 0
        self._storages: dict[int, ref] = {}
        self._frames: list[tuple[str, int]] = []
        self._running: set[str] = {""}
        self._formulas = FlopCounterMode(display=False).flop_registry
        self._hooks = ExitStack()

    def __enter__(self) -> Meter:
        for module in self.paths:
            if not isinstance(module, Tap):  # a hook on a tap would make it compute its map
                enter = module.register_forward_pre_hook(self._enter, prepend=True)
                leave = module.register_forward_hook(self._leave)
                self._hooks.callback(enter.remove)
                self._hooks.callback(leave.remove)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()
        self.kept = self.live
        super().__exit__(*error)

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._frames.append((self.paths[module], self.live))
        self._running = self._outer(path for path, _ in self._frames)

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        path, _ = self._frames.pop()
        for outer in self._outer([path]):
            tally = self.tallies[outer]
            tally.memory = max(tally.memory, self.tallies[path].memory)
        self._running = self._outer(path for path, _ in self._frames)

    def _outer(self, paths: Iterable[str]) -> set[str]:
        """Add all parents to some paths, because containers such as ModuleList are never called."""
        found = {""}
        for path in paths:
            parts = path.split(".")
            found |= {".".join(parts[:i]) for i in range(1, len(parts) + 1)}
        return found & self.tallies.keys()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for source in _tensors((args, kwargs)):
            self._follow(source, size=0)
        out = func(*args, **(kwargs or {}))
        for result in _tensors(out):
            self._follow(result, size=result.untyped_storage().nbytes())
        macs, elementwise = self._operations(func, args, kwargs or {}, out)
        for path in self._running:
            self.tallies[path].macs += macs
            self.tallies[path].elementwise += elementwise
        return out

    def _follow(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._storages:
            return
        self._storages[key] = ref(storage, lambda _: self._free(key, size))
        self.live += size
        for path, before in (("", 0), *self._frames):
            tally = self.tallies[path]
            tally.memory = max(tally.memory, self.live - before)

    def _free(self, key: int, size: int) -> None:
        del self._storages[key]
        self.live -= size

    def _operations(
        self, func: Any, args: tuple, kwargs: dict[str, Any], out: Any
    ) -> tuple[int, int]:
        if isinstance(func, torch._ops.HigherOrderOperator):
            if func in self._formulas:
                return self._formulas[func](*args, **kwargs, out_val=out) // 2, 0
            self.uncounted.add(func.name())
            return 0, 0
        name = func._schema.name
        if name.startswith("aten::_scaled_dot_product") and not name.endswith("backward"):
            return _attention(out, *args)
        if name in PRODUCTS:
            return PRODUCTS[name](out, *args, **kwargs)
        if func._overloadpacket in self._formulas:
            flops = self._formulas[func._overloadpacket](*args, **kwargs, out_val=out)
            return flops // 2, 0
        space, _, short = name.partition("::")
        if space not in ("aten", "prim", "prims"):
            self.uncounted.add(name)
            return 0, 0
        return 0, _elementwise(short, func, args, out)


class Count(NamedTuple):
    """MACs and elementwise operations of one call."""

    macs: int
    elementwise: int


def _copy(x: Tensor, grad: bool) -> Tensor:
    """Copy a tensor, to one that in-place operations may change, unlike a leaf with gradients."""
    return x.detach().requires_grad_(grad and x.is_floating_point()).clone()


def run(
    model: nn.Module,
    inputs: Sequence[Any],
    named: Mapping[str, Any] | None = None,
    *,
    grad: bool = False,
) -> Meter:
    """Run a model on copies of the inputs, and of those with a name, and return the counts."""
    with undisturbed(model, grad=grad), uncompiled():
        args, kwargs = tree_map(
            lambda x: _copy(x, grad) if isinstance(x, Tensor) else x, (list(inputs), named or {})
        )
        with Meter(model) as meter:
            out = model(
                *args, **kwargs
            )  # keeps the output alive until the end, so that it is counted
        del out
    return meter


def count(module: nn.Module, *inputs: Any) -> Count:
    """Count the operations of one call, in evaluation mode.

    >>> count(nn.Conv2d(3, 8, 1), torch.randn(1, 3, 5, 5))
    Count(macs=600, elementwise=0)
    """
    total = run(module, inputs).tallies[""]
    return Count(total.macs, total.elementwise)


def peak_memory(module: nn.Module, *inputs: Any, backward: bool = False) -> int:
    """Return the bytes of activations of one call: at the peak, or kept for the backward pass.

    >>> peak_memory(nn.ReLU(), torch.randn(1, 3, 5, 5))
    300
    """
    meter = run(module, inputs, grad=backward)
    return meter.kept if backward else meter.tallies[""].memory
