"""Which axis of a tensor is which: followed through every operation of a dry run.

An axis gets its name from the layers that read it, before or after: a convolution reads channels on
axis 1, a linear layer on the last one. What cannot be followed stays without a name; nothing is
guessed from sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from ..core.shapes import GRIDS
from .moves import Move, moves_of
from .record import Axis, Factor, Value

Known = Mapping[Tensor, Value]

CONVOLUTIONS = frozenset(f"conv{way}{d}d" for way in ("", "_transpose") for d in (1, 2, 3))
POOLS = frozenset(
    f"{size}{pool}_pool{d}d"
    for size in ("", "adaptive_")
    for pool in ("avg", "max")
    for d in (1, 2, 3)
) | {f"max_pool{d}d_with_indices" for d in (1, 2, 3)}
FIRST_NORMS = frozenset(("batch_norm", "group_norm", "instance_norm"))
LAST_NORMS = frozenset(("layer_norm", "rms_norm"))
PRODUCTS = frozenset(("matmul", "__matmul__", "__rmatmul__", "bmm", "baddbmm"))
ATTENTIONS = frozenset(("scaled_dot_product_attention", "multi_head_attention_forward"))
WEIGHTED = CONVOLUTIONS | {"linear", "multi_head_attention_forward"}
MIXING = WEIGHTED | PRODUCTS | {"einsum", "scaled_dot_product_attention"}

# They return elements of their first argument in another arrangement.
MOVES = frozenset(
    (
        *("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "__get__"),
        *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "reshape_as"),
        *("view_as", "__getitem__", "chunk", "split", "split_with_sizes", "unbind", "narrow"),
        *("select", "tensor_split", "expand", "expand_as", "unfold", "repeat", "tile", "flip"),
        *("index_select", "broadcast_to", "hsplit", "vsplit"),
    )
)
# They keep the meaning of every axis, although sizes may differ.
RESIZING = frozenset(
    (
        *("interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "pad", "_pad"),
        *("grid_sample", "deform_conv2d", "pixel_shuffle", "pixel_unshuffle", "glu"),
    )
)
JOINS = {"cat": 0, "concat": 0, "concatenate": 0, "hstack": 1, "vstack": 0}
REDUCTIONS = frozenset(
    ("mean", "sum", "amax", "amin", "max", "min", "std", "var", "norm", "prod", "logsumexp")
)
# They take positions along an axis in an order that depends on values.
SELECTIONS = frozenset(("gather", "take_along_dim", "sort", "topk", "msort"))


def axes_of(
    func: Callable[..., Any], op: str, args: Any, kwargs: Any, known: Known, results: list[Tensor]
) -> list[tuple[Axis, ...]]:
    """Return the axes of the tensors that a function returned.

    Args:
        func: The function.
        op: Its name.
        args: Its arguments.
        kwargs: Its keyword arguments.
        known: What is known of tensors that depend on the model's input.
        results: The tensors that it returned.
    """
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    inputs = [(x, known[x]) for x in given if x in known]
    x, first = inputs[0]
    if (op, x.dim(), results[0].dim()) == ("unfold", 4, 3):  # an image into its patches
        return [(first.axes[0], Axis(), Axis("n"))]
    if (op, x.dim(), results[0].dim()) == ("fold", 3, 4):
        return [(first.axes[0], *map(Axis, "chw"))]
    if op in MOVES and x is given[0]:
        return _moved(func, args, kwargs, x, first, results)
    if op == "roll" and (found := _rolled(*args, **kwargs, axes=first.axes)):
        return [found]
    if op in JOINS and args and isinstance(args[0], (tuple, list)):
        dim = kwargs.get("dim", args[1] if len(args) > 1 else JOINS[op])
        return [_joined(args[0], dim if op != "hstack" else 1, known)]
    if op == "stack":
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % results[0].dim()
        return [(*first.axes[:dim], Axis(), *first.axes[dim:])]
    if op in CONVOLUTIONS | POOLS | FIRST_NORMS and results[0].dim() == x.dim() > 2:
        return [_channels_first(op, first, result) for result in results]
    if op == "linear":
        return [_linear(first, out) for out in results]
    if op in LAST_NORMS:
        first.axes[-1].read_as("c")
        return [first.axes]
    if op in PRODUCTS:
        return [_product(given[:2], known, out) for out in results]
    if op == "einsum" and (found := _einsum(args, known, results)):
        return found
    if op == "scaled_dot_product_attention":
        return [_attended(given, known, out) for out in results]
    if op == "multi_head_attention_forward":
        return _multi_head(known.get(given[0]), first, results)
    if op == "embedding":
        return [(*known[x].axes, Axis("c")) for _ in results]
    if op in SELECTIONS and (found := _selected(args, kwargs, first, results)):
        return found
    if op in REDUCTIONS and (found := _reduced(args, kwargs, first, results)):
        return found
    return [_elementwise(op, [value for _, value in inputs], out) for out in results]


def unknown(shape: Sequence[int]) -> tuple[Axis, ...]:
    """Return axes about which nothing is known."""
    return tuple(Axis() for _ in shape)


def _rolled(
    x: Tensor,
    shifts: int | Sequence[int],
    dims: int | Sequence[int] | None = None,
    *,
    axes: tuple[Axis, ...],
) -> tuple[Axis, ...] | None:
    if dims is None:  # all elements are rolled as one sequence
        return unknown(x.shape)
    found = list(axes)
    pairs = zip(*((n,) if isinstance(n, int) else n for n in (shifts, dims)), strict=True)
    for shift, dim in pairs:
        found[dim] = found[dim].rolled(int(shift))
    return tuple(found)


def _channels_first(op: str, value: Value, out: Tensor) -> tuple[Axis, ...]:
    old = value.axes
    space = GRIDS.get(len(old) - 2, "").split()
    for axis, name in zip(old, ("b", "c", *space), strict=False):
        axis.read_as(name)
    axes = [
        axis if size == new else axis.successor()
        for axis, size, new in zip(old, value.shape, out.shape, strict=True)
    ]
    if op in CONVOLUTIONS:  # its outputs are new channels, or new tokens in a mixer
        axes[1] = old[1].successor()
    return tuple(axes)


def _linear(value: Value, out: Tensor) -> tuple[Axis, ...]:
    last = value.axes[-1]
    last.read_as("c")
    if last.name == "c":
        return (*value.axes[:-1], Axis("c"))
    # A mixer: the layer acts along tokens or space, of which there are then as many or others.
    return (*value.axes[:-1], last if out.shape[-1] == value.shape[-1] else last.successor())


def _product(given: list[Tensor], known: Known, out: Tensor) -> tuple[Axis, ...]:
    axes = list(unknown(out.shape))
    for side, x in enumerate(given):
        if x not in known or x.dim() < 2:
            continue
        old = known[x]
        keep = {len(old.shape) - 1 if side else len(old.shape) - 2}
        keep |= set(range(len(old.shape) - 2))
        for i in keep:
            j = i - len(old.shape) + out.dim()
            if j >= 0 and old.shape[i] == out.shape[j] and not axes[j].name:
                axes[j] = old.axes[i]
    if given[0] in known and given[-1] not in known and known[given[0]].axes[-1].name == "c":
        axes[-1] = Axis("c")  # a product with a weight
    return tuple(axes)


def _einsum(args: Any, known: Known, results: list[Tensor]) -> list[tuple[Axis, ...]] | None:
    equation, *operands = args
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    left, _, right = equation.replace(" ", "").partition("->")
    letters: dict[str, Axis] = {}
    for term, x in zip(left.split(","), operands, strict=True):
        if x in known:
            for letter, axis in zip(term, known[x].axes, strict=True):
                letters.setdefault(letter, axis)
    summed = {axis.name for letter, axis in letters.items() if letter not in right}
    new = "c" if "c" in summed else ""  # an axis of a weight, which takes the place of channels
    return [tuple(letters.get(letter) or Axis(new) for letter in right) for _ in results]


def _attended(given: list[Tensor], known: Known, out: Tensor) -> tuple[Axis, ...]:
    query, value = known.get(given[0]), known.get(given[2])
    axes = list(query.axes if query and len(query.axes) == out.dim() else unknown(out.shape))
    if value and len(value.axes) == out.dim():
        axes[-1] = value.axes[-1]
    return tuple(axes)


def _multi_head(query: Value | None, first: Value, results: list[Tensor]) -> list[tuple[Axis, ...]]:
    if results[0].dim() == 3:  # the function takes (n, b, c), whatever the module took
        for axis, name in zip(first.axes, "nbc", strict=True):
            axis.read_as(name)
    if query is None:  # queries that do not depend on the input, to keys that do
        axes = (Axis("n"), *first.axes[1:-1], Axis("c"))[-results[0].dim() :]
    else:
        axes = query.axes
    found = [axes]
    for weights in results[1:]:
        batch = (*axes[1:-1], *unknown(weights.shape))[: weights.dim() - 2]
        found.append((*batch, axes[0].successor(), Axis("n")))
    return found


def _selected(
    args: Any, kwargs: Any, value: Value, results: list[Tensor]
) -> list[tuple[Axis, ...]] | None:
    dim = kwargs.get("dim", next((arg for arg in args[1:] if type(arg) is int), -1))
    if any(out.dim() != len(value.shape) for out in results):
        return None
    dim = dim % len(value.shape)
    return [
        tuple(
            Axis(axis.name) if i == dim else axis if axis.size == out.shape[i] else Axis()
            for i, axis in enumerate(value.axes)
        )
        for out in results
    ]


def _reduced(
    args: Any, kwargs: Any, value: Value, results: list[Tensor]
) -> list[tuple[Axis, ...]] | None:
    dims = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, (tuple, list)) or not all(isinstance(d, int) for d in dims):
        return None
    gone = {d % len(value.shape) for d in dims}
    kept = tuple(axis for i, axis in enumerate(value.axes) if i not in gone)
    found = []
    for out in results:
        whole = out.dim() == len(value.shape)
        axes = [a.successor() if i in gone else a for i, a in enumerate(value.axes)]
        found.append(tuple(axes) if whole else kept if len(kept) == out.dim() else None)
    return None if None in found else found


def _elementwise(op: str, values: list[Value], out: Tensor) -> tuple[Axis, ...]:
    first = values[0]
    if op in RESIZING and len(first.shape) == out.dim():
        return tuple(
            axis if size == new else axis.successor()
            for axis, size, new in zip(first.axes, first.shape, out.shape, strict=True)
        )
    axes = list(unknown(out.shape))
    for value in values:
        shift = out.dim() - len(value.shape)
        pairs = list(zip(value.shape, out.shape[max(shift, 0) :], strict=False))
        if shift < 0 or any(size not in (1, new) for size, new in pairs):
            return unknown(out.shape)  # it is no operation on single elements
        for axis, (size, new), j in zip(value.axes, pairs, range(shift, out.dim()), strict=True):
            if size == new and (not axes[j].name or (axis.name and axes[j].assumed)):
                axes[j] = axis
    return tuple(axes)


def _joined(parts: Sequence[Tensor], dim: int, known: Known) -> tuple[Axis, ...]:
    """Return the axes of a concatenation; parts that are parameters may be class tokens."""
    values = [known[x] for x in parts if x in known]
    dim = dim % len(values[0].axes)
    axes = list(_elementwise("cat", values, torch.empty(values[0].shape, device="meta")))
    axes = [
        next((v.axes[i] for v in values if v.axes[i].name), axis) for i, axis in enumerate(axes)
    ]
    if whole := _put_together([v.axes[dim] for v in values] if len(values) == len(parts) else []):
        axes[dim] = whole
        return tuple(axes)
    old = axes[dim]
    grids = [
        (i, axis.grid)
        for i, x in enumerate(parts)
        if x in known and not (axis := known[x].axes[dim]).class_only
        if x.shape[dim] > 1 or axis.grid
    ]
    axes[dim] = old.successor()
    if len(grids) == 1 and (grid := grids[0][1]):
        axes[dim].named = "n"
        before = grid.before + sum(x.shape[dim] for x in parts[: grids[0][0]])
        after = grid.after + sum(x.shape[dim] for x in parts[grids[0][0] + 1 :])
        axes[dim].class_tokens = replace(grid, before=before, after=after)
    return tuple(axes)


def _put_together(pieces: list[Axis]) -> Axis | None:
    """Return the axis of which pieces are concatenated, if they are all there, in their order."""
    whole, end = None, 0
    for axis in pieces:
        if axis.piece_of is None or axis.piece_of[1] != end:
            return None
        if whole is not None and axis.piece_of[0] is not whole:
            return None
        whole, _, end = axis.piece_of
    return whole if whole is not None and end == whole.size else None


def takes_class_tokens(
    func: Callable[..., Any], op: str, args: Any, kwargs: Any, known: Known
) -> bool:
    """Return whether a function returns class tokens alone, of tokens that are an image too."""
    x = args[0] if args and isinstance(args[0], Tensor) else None
    value = known.get(x) if x is not None and op in MOVES else None
    for i, axis in enumerate(value.axes if value else ()):
        if axis.class_tokens and x is not None:
            before, end = axis.class_tokens.before, x.shape[i] - axis.class_tokens.after
            moves = moves_of(func, args, kwargs, x)
            places = [
                torch.unravel_index(line, x.shape)[i] for move in moves for line in move.lines
            ]
            return bool(places) and not any(((p >= before) & (p < end)).any() for p in places)
    return False


def _moved(
    func: Callable[..., Any], args: Any, kwargs: Any, x: Tensor, value: Value, results: list[Tensor]
) -> list[tuple[Axis, ...]]:
    moves = moves_of(func, args, kwargs, x)
    if [move.shape for move in moves] != [tuple(y.shape) for y in results]:
        return [unknown(y.shape) for y in results]
    return [_rearranged(move, value) for move in moves]


def _rearranged(move: Move, value: Value) -> tuple[Axis, ...]:
    """Return the axes of a tensor, given where its elements were in another one."""
    if not move.shape:
        return ()
    if not math.prod(move.shape):
        return unknown(move.shape)
    if move.whole:
        return _reshaped(value, move.shape)
    if not move.regular:
        return unknown(move.shape)
    axes: list[Axis | None] = []
    used: list[int] = []
    for line in move.lines:
        positions = torch.stack(torch.unravel_index(line, value.shape))
        moving = [i for i, row in enumerate(positions) if (row != row[0]).any()]
        used += moving
        found = _part(value.axes[moving[0]], positions[moving[0]].tolist()) if moving else None
        axes.append(found if len(moving) < 2 else Axis())
    if len(used) > len(set(used)):  # an axis was split, and not in the order of its elements
        return unknown(move.shape)
    if len(move.shape) == len(value.shape) and used == sorted(used):  # slices of one position
        first = torch.unravel_index(move.lines[0][0], value.shape)
        for j, (axis, size) in enumerate(zip(value.axes, value.shape, strict=True)):
            if j not in used and size > 1:
                axes[j] = _part(axis, [int(first[j])])
    return _with_single(axes, move.shape, value)


def _reshaped(value: Value, shape: tuple[int, ...]) -> tuple[Axis, ...]:
    """Regroup the digits of all positions, whose order a reshape keeps."""
    left: list[Factor] = []
    for axis, size in zip(value.axes, value.shape, strict=True):
        if size > 1:
            left += axis.factors or (Factor(axis, size),)
    axes: list[Axis | None] = []
    for size in shape:
        taken: list[Factor] = []
        while size > 1:
            axis, outer, stride = left.pop(0)
            if outer > size:  # it is split
                if outer % size:
                    return unknown(shape)
                left.insert(0, Factor(axis, outer // size, stride))
                outer, stride = size, stride * (outer // size)
            if size % outer:
                return unknown(shape)
            size //= outer
            taken.append(Factor(axis, outer, stride))
        axes.append(_composed(taken) if taken else None)
    return _with_single(axes, shape, value)


def _composed(factors: list[Factor]) -> Axis:
    """Return the axis that consists of these factors, or the one that they add up to again."""
    joined: list[Factor] = []
    for factor in factors:
        last = joined[-1] if joined else None
        if last and last.axis is factor.axis and last.stride == factor.size * factor.stride:
            joined[-1] = Factor(factor.axis, last.size * factor.size, factor.stride)
        else:
            joined.append(factor)
    axis, size, _ = joined[0]
    if len(joined) == 1 and size == axis.size:
        return axis
    return Axis(factors=tuple(joined), assumed=any(f.axis.assumed for f in joined))


def _part(axis: Axis, positions: list[int]) -> Axis:
    """Return an axis that has some positions of another one."""
    first, end = positions[0], positions[-1] + 1
    if positions == [*range(axis.size)]:
        return axis
    new = axis.successor()
    if positions == [*range(first, end)]:
        if grid := axis.grid:
            before, after = grid.before - first, grid.after - (axis.size - end)
            if before == after == 0:
                new = _composed([*map(Factor, grid.axes, grid.sizes, grid.strides)])
            elif before >= 0 and after >= 0:
                new.class_tokens = replace(grid, before=before, after=after)
            new.class_only = end <= grid.before or first >= axis.size - grid.after
        new.piece_of = axis, first, end
    return new


def _with_single(axes: list[Axis | None], shape: Sequence[int], value: Value) -> tuple[Axis, ...]:
    """Match axes of size one, along which no element moves, if there are as many as before."""
    left = [axis for axis, size in zip(value.axes, value.shape, strict=True) if size == 1]
    new = [j for j, axis in enumerate(axes) if axis is None and shape[j] == 1]
    if len(left) == len(new):
        for j, axis in zip(new, left, strict=True):
            axes[j] = axis
    return tuple(axis or Axis() for axis in axes)
