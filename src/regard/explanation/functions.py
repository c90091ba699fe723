"""Seeing the attention that a model computes by itself, in the functions that it calls.

Attention weighs something that depends on the input. Its map is the result of a softmax that
multiplies values and is summed along the axis along which it adds up to one; or, without a softmax,
a product of queries and keys that multiplies values; or, in linear attention, it is never computed:
queries are multiplied by the product of keys and values. A softmax whose result is returned,
compared or multiplied by constants, as in a classifier or a detector's box head, is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..core.attention import Mechanism
from ..surgery.dry_run import DryRun
from ..surgery.following import MOVES, PRODUCTS
from ..surgery.record import Axis, Call, Value
from .equations import Product, product_of
from .fused import Given, Reduction, arguments, of_multi_head, weights, with_gradient
from .positions import Canonical, canonical, kind

F = torch.nn.functional
PAIRS = PRODUCTS | {"einsum"}
SOFTMAXES = frozenset(("softmax", "gumbel_softmax", "_softmax", "_safe_softmax"))
# After these, a map still adds up to one.
KEEPING = MOVES | frozenset(
    (
        *("dropout", "to", "type", "type_as", "float", "half", "bfloat16", "double", "contiguous"),
        *("clone", "detach", "nan_to_num", "requires_grad_"),
    )
)
LAYERS = frozenset(("linear", "conv1d", "conv2d"))
# After these, what multiplies the values is made of maps, although it need not add up to one.
MIXING = LAYERS | frozenset(
    (
        *("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__"),
        *("mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__"),
        *("true_divide", "masked_fill", "masked_fill_", "where", "sum"),
        *("batch_norm", "layer_norm", "relu", "clamp", "clamp_min", "normalize"),
    )
)
ACTIVATIONS = frozenset(("sigmoid", "softplus", "square", "pow", "exp", "tanh", "elu", "gelu"))
WEIGHTINGS = frozenset(("mul", "__mul__", "__rmul__", "multiply"))


class Sighting(NamedTuple):
    """A map that was seen.

    Attributes:
        call: The run of the module that computed it.
        source: The tensor that multiplied the values.
        axes: Its axes.
        function: The function that computed it.
        order: Its axes in another order, the last two of which are queries and keys; None for the
            single query of a tensor that has no axis of queries.
        adds_up: Whether each query's row adds up to one.
        compared: Whether its scores are products of queries and keys.
        points: Where its keys are sampled, in the order of the source, as ``x, y`` from -1 to 1.
    """

    call: Call
    source: Tensor
    axes: tuple[Axis, ...]
    function: str
    order: tuple[int | None, ...]
    adds_up: bool = True
    compared: bool = True
    points: Tensor | None = None

    def canonical(self, batch: int, source: Tensor | None = None) -> Canonical:
        """Return the map, or another tensor such as its gradient, with named axes."""
        x = self.source if source is None else source
        a = x.permute([i for i in self.order if i is not None])
        axes = tuple(Axis(size=1) if i is None else self.axes[i] for i in self.order)
        a = a.unsqueeze(-2) if None in self.order else a
        named = "" if self.compared else "branches" if self.points is None else "points"
        return canonical(a, axes, batch, branches=named)


@dataclass(frozen=True)
class Softmax:
    """A tensor that is the result of a softmax, or made of one.

    Attributes:
        size: The size of the axis along which it was computed.
        compared: Whether it was computed from a product of queries and keys.
        mixed: Whether the result was changed since.
        weights: The map, if the tensor is the product of a map and values.
    """

    size: int
    compared: bool = True
    mixed: bool = False
    weights: Tensor | None = None


class Scores(NamedTuple):
    """A tensor that is a product of queries and keys, without a softmax."""


class Context(NamedTuple):
    """A tensor that is a product of keys and values, summed over their tokens.

    Attributes:
        sides: For both of its operands: the axis that is left of it, and the operand, as
            ``… that axis, tokens``, with the axis of its tokens.
    """

    sides: tuple[tuple[Axis, Tensor, Axis], ...]


class Watch(TorchFunctionMode):
    """Passes the maps of a dry run on while it goes on.

    Args:
        run: The dry run.
        see: Takes each map.
        wanted: Whether attention at the path of a module is.
        reduction: What is kept of the maps of fused attention.
        grad: Whether gradients flow through the maps.
    """

    def __init__(
        self,
        run: DryRun,
        see: Callable[[Sighting], None],
        wanted: Callable[[str], bool],
        reduction: Reduction,
        *,
        grad: bool = False,
    ) -> None:
        super().__init__()
        self.run = run
        self.see = see
        self.wanted = wanted
        self.reduction = reduction
        self.grad = grad
        self._marks = WeakTensorKeyDictionary()
        self._points: dict[Call, list[Tensor]] = {}  # the grids of grid_sample

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        call = self.run.current
        if call is None or any(isinstance(c.module, Mechanism) for c in call.within()):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and self.wanted(call.name):
            return self._fused(call, args, kwargs)
        if func is F.multi_head_attention_forward and self.wanted(call.name):
            return self._multi_head(call, func, args, kwargs)
        name = getattr(func, "__name__", "")
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        product = product_of(name, args, given) if name in PAIRS else None
        if product:
            self._multiplied(call, product)
        elif name == "sum" and given:
            self._summed(call, args, kwargs, given[0])
        elif name == "grid_sample" and given[1].dim() == 4:
            self._points.setdefault(call, []).append(given[1].detach())
        y = func(*args, **kwargs)
        if name in SOFTMAXES and isinstance(y, Tensor) and y.dim() > 1:
            if (size := y.shape[_dim(args, kwargs)]) > 1:
                self._marks[y] = Softmax(size, _is_product(self.run.value_of(given[0])))
        elif product and isinstance(y, Tensor):
            self._compared(product, y)
        elif marked := [x for x in given if x in self._marks]:
            self._follow(name, marked[0], given, y)
        return y

    def _see(
        self,
        call: Call,
        a: Tensor,
        axes: tuple[Axis, ...],
        function: str,
        order: Sequence[int | None] | None = None,
        **facts: Any,
    ) -> None:
        order = range(a.dim()) if order is None else order
        if self.wanted(call.name):
            a = a if self.grad else a.detach()
            self.see(Sighting(call, a, axes, function, tuple(order), **facts))

    def _axes(self, x: Tensor) -> tuple[Axis, ...]:
        value = self.run.value_of(x)
        return value.axes if value else tuple(Axis(size=size) for size in x.shape)

    def _depends(self, x: Tensor) -> bool:
        """Return whether a tensor depends on the model's input."""
        return self.run.value_of(x) is not None

    def _fused(self, call: Call, args: Any, kwargs: Any) -> Tensor:
        """Compute the map beside the fused function."""
        given = arguments(*args, **kwargs)
        y = F.scaled_dot_product_attention(*args, **kwargs)
        axes = (*self._axes(given.query)[:-1], self._axes(given.key)[-2])
        a, axes = weights(given, axes, self.reduction)
        self._see(call, a, axes, "scaled_dot_product_attention")
        if not self.grad:
            return y
        value = given.value
        if given.groups > 1:
            value = value.repeat_interleave(given.groups, -3)
        return with_gradient(a.to(value.dtype) @ value, y)

    def _multi_head(self, call: Call, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Compute the map of each head beside torch's function."""
        y, averaged = func(*args, **kwargs)
        given, project = of_multi_head(*args, **kwargs)
        query, key = list(self._axes(args[0])), self._axes(args[1])  # n b c, or n c
        keys = key[0] if given.key.shape[-2] == key[0].size else Axis(size=given.key.shape[-2])
        batch = query[1] if len(query) > 2 else Axis("b", size=1)
        axes = (batch, Axis(size=given.query.shape[-3]), query[0], keys)
        a, axes = weights(given, axes, self.reduction)
        self._see(call, a, axes, "multi_head_attention_forward")
        return (with_gradient(project(a @ given.value), y) if self.grad else y), averaged

    def _multiplied(self, call: Call, product: Product) -> None:
        """See the map in a product with values."""
        for here, a, there, other in product.both_ways():
            mark = self._marks.get(a)
            summed = product.summed
            if mark is None or len(summed) != 1:
                continue
            learned = isinstance(mark, Softmax) and mark.compared  # values, as in memories
            if not learned and not self._depends(other):
                continue
            dim, axes = here.index(summed), self._axes(a)
            if isinstance(mark, Context):
                self._linear(call, mark, axes[dim], here, there, other, product)
                return
            if isinstance(mark, Scores):
                if kind(axes[dim]) == "c":
                    continue
            elif mark.weights is not None or not _adds_up(a, dim, mark):
                continue
            queries = [here.index(x) for x in here if x not in there][-1:]
            order = [i for i in range(a.dim()) if i not in (*queries, dim)]
            order += [*(queries or [None]), dim]
            if isinstance(mark, Scores):
                self._see(call, a, axes, "product", order, adds_up=False)
            else:
                facts = {"adds_up": not mark.mixed, "compared": mark.compared}
                self._see(call, a, axes, "softmax", order, **facts)
            return

    def _linear(
        self,
        call: Call,
        mark: Context,
        axis: Axis,
        here: str,
        there: str,
        other: Tensor,
        product: Product,
    ) -> None:
        """See linear attention: queries times the product of keys and values."""
        axes = self._axes(other)
        queries = [x for x in there if x not in here and kind(axes[there.index(x)]) != "c"]
        side = next((side for side in mark.sides if side[0] is axis), None)
        if side is None or len(queries) != 1:
            return
        _, keys, tokens = side
        order = [x for x in there if x not in (queries[0], product.summed)]
        order += [queries[0], product.summed]
        q = other.permute([there.index(x) for x in order])
        found = (*(axes[there.index(x)] for x in order[:-1]), tokens)
        a, found = weights(
            Given(q, keys.mT, keys, None, 1.0, 1), found, self.reduction, softmax=False
        )
        self._see(call, a, found, "linear attention", adds_up=False)

    def _compared(self, product: Product, y: Tensor) -> None:
        """Mark a product of two tensors that may be queries and keys, or keys and values."""
        x, z, summed = product.x, product.y, product.summed
        marked = isinstance(self._marks.get(x), Softmax) or isinstance(self._marks.get(z), Softmax)
        if marked or len(summed) != 1 or not (self._depends(x) and self._depends(z)):
            return
        free = [[i for i in own if i not in other] for own, _, other, _ in product.both_ways()]
        if [len(letters) for letters in free] != [1, 1]:
            return
        sides = []
        for (own, t, _, _), letters in zip(product.both_ways(), free, strict=True):
            letter = letters[0]
            axes = self._axes(t)
            order = [i for i in own if i not in (letter, summed)] + [letter, summed]
            tokens = axes[own.index(summed)]
            side = t.permute([own.index(i) for i in order])
            sides.append((axes[own.index(letter)], side, tokens))
        kinds = [kind(side[0]) for side in sides]
        over = {kind(side[2]) for side in sides}
        if over == {"c"} and "c" not in kinds:
            self._marks[y] = Scores()
        elif "c" not in over and ("k" in over - {*kinds} or kinds == ["c", "c"]):
            self._marks[y] = Context(tuple(sides))

    def _summed(self, call: Call, args: Any, kwargs: Any, x: Tensor) -> None:
        """See the map in a sum of weighted values."""
        mark = self._marks.get(x)
        a = mark.weights if isinstance(mark, Softmax) else None
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = dims if isinstance(dims, (tuple, list)) else [dims]
        if a is None or len(dims) != 1 or not isinstance(dims[0], int):
            return
        dim = dims[0] % x.dim() - (x.dim() - a.dim())
        if dim < 0 or not _adds_up(a, dim, Softmax(a.shape[dim])):
            return
        axes = self._axes(a)
        order = [*(i for i in range(a.dim()) if i != dim), None, dim]
        # Deformable attention samples its values from each level, as b·heads × queries × points.
        points = self._points.pop(call, None)
        where = torch.cat(points, 2).unsqueeze(1) if points else None
        where = where if where is not None and where.shape[:-1] == a.shape else None
        self._see(call, a, axes, "softmax", order, compared=False, points=where)

    def _follow(self, name: str, x: Tensor, given: list[Tensor], y: Any) -> None:
        """Mark what a function makes of a marked tensor."""
        mark = self._marks[x]
        alone = not any(t not in self._marks and self._depends(t) for t in given)
        made = None
        if name in KEEPING and x is given[0]:
            made = mark if not isinstance(mark, Softmax) or mark.weights is None else None
        elif not isinstance(mark, Softmax):
            after = MIXING | ACTIVATIONS if isinstance(mark, Scores) else MIXING - LAYERS
            made = mark if alone and name in after - {"sum"} else None
        elif mark.weights is None:
            if name in WEIGHTINGS and self._weighs(x, given):
                made = replace(mark, weights=x)
            elif name in MIXING and alone and not _projects(name, x, mark):
                made = replace(mark, mixed=True)
        if made is not None:
            for t in tree_leaves(y):
                if isinstance(t, Tensor) and t.is_floating_point():
                    self._marks[t] = made

    def _weighs(self, a: Tensor, given: list[Tensor]) -> bool:
        """Return whether a map is multiplied by values: another tensor that is larger."""
        others = [t for t in given if t not in self._marks and self._depends(t)]
        return any(t.numel() > a.numel() for t in others)


def _projects(name: str, a: Tensor, mark: Softmax) -> bool:
    """Return whether a layer sums a map along its own axis, which makes it no map any more."""
    if name not in LAYERS:
        return False
    return _adds_up(a, a.dim() - 1 if name == "linear" else 1, replace(mark, mixed=False))


def _is_product(value: Value | None) -> bool:
    """Return whether scores are products of two tensors, apart from a scale, a bias or a mask."""
    while value is not None:
        if value.op in PAIRS:
            return True
        if value.op not in (MIXING | KEEPING) - LAYERS:
            return False
        value = next(iter(value.inputs), None)
    return False


def _dim(args: Any, kwargs: Any) -> int:
    """Return the axis of a softmax; torch's own choice for images, without one, is the channels."""
    dim = kwargs.get("dim", next((x for x in args[1:] if type(x) is int), None))
    return (0 if args[0].dim() in (0, 1, 3) else 1) if dim is None else dim


def _adds_up(a: Tensor, dim: int, mark: Softmax) -> bool:
    """Return whether a map adds up to one along an axis, or may have done so before a change."""
    if a.shape[dim] != mark.size:
        return False
    if mark.mixed:
        return True
    sums = a.detach().sum(dim)
    near = min(8 * torch.finfo(a.dtype).eps * math.sqrt(mark.size), 0.05)
    one = (sums - 1).abs() <= near
    return bool(one.any() and (one | (sums == 0) | sums.isnan()).all())  # closed rows are zero
