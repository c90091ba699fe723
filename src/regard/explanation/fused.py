"""The map of fused attention, which computes none: for some queries at a time, reduced as asked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.precision import widen
from ..surgery.record import Axis
from .positions import positions

CHUNK = 2**24  # entries of a map that are computed at a time


@dataclass(frozen=True)
class Reduction:
    """What is kept of the maps of fused attention, which are computed for some queries at a time.

    Attributes:
        heads: ``"mean"`` or ``"max"`` over the heads; None for all of them.
        query: The index of a query or its place, ``"mean"`` over the queries, or None for all.
    """

    heads: str | None = None
    query: int | tuple[float, ...] | str | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Reduction:
        """Check what a user gave.

        Raises:
            ValueError: it is something else.
        """
        given = dict(given or {})
        heads, query = given.pop("heads", None), given.pop("query", None)
        if given:
            raise ValueError(f"reduce: expected 'heads' and 'query', got {next(iter(given))!r}")
        if heads not in (None, "mean", "max"):
            raise ValueError(f"reduce: heads: expected 'mean' or 'max', got {heads!r}")
        place = isinstance(query, tuple) and all(type(i) in (int, float) for i in query)
        if not (query is None or query == "mean" or type(query) is int or place):
            raise ValueError(
                f"reduce: query: expected an index, (row, column) or 'mean', got {query!r}"
            )
        return cls(heads, query)

    def row(self, axis: Axis) -> int | None:
        """Return the index of the one query that is kept, given the axis of queries.

        Raises:
            ValueError: there is no such query, or its place is unknown.
        """
        if self.query is None or isinstance(self.query, str):
            return None
        if isinstance(self.query, int):
            index = self.query
        elif (found := positions(axis)) is None:
            raise ValueError(
                "reduce: query: the places of these queries are unknown; give an index"
            )
        else:
            index = int((found.index == found.of(self.query)).nonzero()[0])
        if not 0 <= index < axis.size:
            raise ValueError(f"reduce: query: expected 0 to {axis.size - 1}, got {index}")
        return index


class Given(NamedTuple):
    """The arguments of `torch.nn.functional.scaled_dot_product_attention`."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    groups: int


def arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Given:
    """Sort the arguments of `torch.nn.functional.scaled_dot_product_attention`."""
    mask = attn_mask
    if is_causal:
        shape = query.shape[-2], key.shape[-2]
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return Given(query, key, value, mask, scale, groups)


def of_multi_head(*args: Any, **kwargs: Any) -> tuple[Given, Callable[[Tensor], Tensor]]:
    """Sort the arguments of `torch.nn.functional.multi_head_attention_forward`.

    Returns:
        The arguments of attention ``b heads n d``, and the projection of its output to ``n b c``.
    """
    bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **kwargs)
    bound.apply_defaults()
    own = SimpleNamespace(**bound.arguments)
    batched = own.query.dim() == 3
    heads, bias = own.num_heads, own.in_proj_bias
    if own.use_separate_proj_weight:
        layers = [own.q_proj_weight, own.k_proj_weight, own.v_proj_weight]
    else:
        layers = own.in_proj_weight.chunk(3)
    biases = [None] * 3 if bias is None else bias.chunk(3)
    tensors = [own.query, own.key, own.value]
    query, key, value = (
        F.linear(x if batched else x.unsqueeze(1), w, b)
        for x, w, b in zip(tensors, layers, biases, strict=True)
    )
    key = own.static_k.transpose(0, 1) if own.static_k is not None else key
    value = own.static_v.transpose(0, 1) if own.static_v is not None else value
    b, m = query.shape[1], key.shape[0]
    mask = _bias(own.attn_mask, query)
    if mask is not None and mask.dim() == 3:
        mask = mask.view(b, heads, *mask.shape[-2:])
    if own.key_padding_mask is not None:
        padding = _bias(own.key_padding_mask.view(-1, 1, 1, m), query)
        mask = padding if mask is None else mask + padding
    if own.bias_k is not None:
        key = torch.cat([key, own.bias_k.expand(1, b, -1)])
        value = torch.cat([value, own.bias_v.expand(1, b, -1)])
    if own.add_zero_attn:
        key, value = (torch.cat([x, x.new_zeros(1, *x.shape[1:])]) for x in (key, value))
    if mask is not None:
        mask = F.pad(mask, (0, key.shape[0] - m))
    query, key, value = (
        x.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for x in (query, key, value)
    )

    def project(z: Tensor) -> Tensor:
        z = F.linear(z.permute(2, 0, 1, 3).flatten(2), own.out_proj_weight, own.out_proj_bias)
        return z if batched else z.squeeze(1)

    return Given(query, key, value, mask, query.shape[-1] ** -0.5, 1), project


def _bias(mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Return a mask of torch's layer, in which True closes, as a bias of the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)


def weights(
    given: Given, axes: Sequence[Axis], reduction: Reduction, *, softmax: bool = True
) -> tuple[Tensor, tuple[Axis, ...]]:
    """Compute the map, reduced, and return its axes.

    Args:
        given: The arguments of attention.
        axes: The axes of the whole map.
        reduction: What is kept of it.
        softmax: Whether the scores pass a softmax; linear attention has none.
    """
    parts = []
    for a in _chunks(given, reduction.row(axes[-2]), softmax=softmax):
        if reduction.heads and a.dim() > 3:
            a = a.mean(-3, keepdim=True) if reduction.heads == "mean" else a.amax(-3, keepdim=True)
        parts.append(a.sum(-2, keepdim=True) if reduction.query == "mean" else a)
    if reduction.query == "mean":
        parts = [torch.stack(parts).sum(0) / given.query.shape[-2]]
    a = torch.cat(parts, -2) if len(parts) > 1 else parts[0]
    pairs = zip(axes, a.shape, strict=True)
    return a, tuple(axis if axis.size == n else Axis(size=n) for axis, n in pairs)


def _chunks(given: Given, row: int | None, *, softmax: bool) -> Iterator[Tensor]:
    """Compute the map for some queries at a time, or for one.

    A query that may attend to nothing gets zeros.
    """
    query, key, mask = widen(given.query), widen(given.key), given.mask
    if given.groups > 1:
        key = key.repeat_interleave(given.groups, -3)
    n, m = query.shape[-2], key.shape[-2]
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2])
    rows = max(1, CHUNK // max(1, m * math.prod(lead)))
    for start in range(0, n, rows) if row is None else (row,):
        stop = min(start + rows, n) if row is None else row + 1
        scores = (query[..., start:stop, :] * given.scale) @ key.mT
        if mask is not None:
            own = mask if mask.shape[-2] == 1 else mask[..., start:stop, :]
            closed = own.dtype == torch.bool
            scores = scores.masked_fill(~own, -math.inf) if closed else scores + own
        yield scores.softmax(-1).nan_to_num() if softmax else scores


def with_gradient(z: Tensor, y: Tensor) -> Tensor:
    """Return the numbers of ``y`` with the gradient of ``z``."""
    return z + (y - z).detach()
