"""Attention without the map: the same sums and gradients as with it, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from closeness import assert_same
from regard.core import pairwise
from regard.measurement import peak_memory

N = 2 * pairwise.ROWS + 7  # three slices, the last one short
WIDTHS = [(8, 8), (3, 16), (16, 3)]  # the fused kernel; slices; padded values
MASKS = ["none", "keys", "pairs", "heads"]


def tensors(d: int, e: int, *batch: int) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(d + e)
    shapes = ((*batch, N, d), (*batch, N + 4, d), (*batch, N + 4, e))
    return tuple(
        torch.randn(s, generator=random, dtype=torch.float64).requires_grad_() for s in shapes
    )


def closing(kind: str) -> Tensor | None:
    """A mask that closes some keys; where it may tell queries apart, one of them wholly."""
    shapes = {"keys": (N + 4,), "pairs": (N, N + 4), "heads": (2, 3, N, N + 4)}
    if kind == "none":
        return None
    mask = torch.rand(shapes[kind], generator=torch.Generator().manual_seed(3)) > 0.3
    return mask[None] if kind == "keys" else mask.index_fill(-2, torch.tensor([300]), False)


def run(f: Callable[..., Tensor], *given: Tensor) -> tuple[Tensor, ...]:
    y = f(*given)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return (y, *torch.autograd.grad((y * weights).sum(), given))


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_attend_gives_what_the_map_gives(widths: tuple[int, int], kind: str, causal: bool) -> None:
    given = tensors(*widths, 2, 3)
    how: dict[str, Any] = {"scale": 0.3, "mask": closing(kind), "causal": causal}

    def by_map(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return pairwise.attention_weights(q, k, **how) @ v

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return pairwise.scaled_dot_product(q, k, v, **how)

    assert_same(run(fused, *given), run(by_map, *given))


@pytest.mark.parametrize("keys", [N, N + 4, N - 9])
def test_causal_queries_read_the_past_alone(keys: int) -> None:
    """The last query stands at the last key; one before all keys gets zeros."""
    q, k, v = tensors(8, 8, 2)
    k, v = (t.repeat(1, 2, 1)[:, :keys] for t in (k, v))
    a = pairwise.attention_weights(q, k, causal=True)
    places = torch.arange(N)[:, None] + keys - N
    assert torch.equal(a > 0, (torch.arange(keys) <= places).expand_as(a))
    for dropout in (0.0, 1e-12):  # by the fused kernel, and in slices
        assert_same(
            pairwise.scaled_dot_product(q, k, v, causal=True, dropout=dropout), a @ v, rtol=1e-8
        )


def test_dropout_is_the_same_on_the_way_back() -> None:
    """What is computed again drops again what was dropped."""
    given = tensors(8, 8, 2)

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(0)
        return pairwise.scaled_dot_product(q, k, v, dropout=0.4)

    def by_map(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(0)
        maps = [pairwise.attention_weights(rows, k) for rows in q.split(pairwise.ROWS, 1)]
        return torch.cat([torch.dropout(a, 0.4, train=True) @ v for a in maps], 1)

    assert_same(run(fused, *given), run(by_map, *given))


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_memory_grows_with_the_queries_alone(widths: tuple[int, int], dropout: float) -> None:
    class Reads(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return pairwise.scaled_dot_product(q, k, v, dropout=dropout)

    def peak(n: int) -> int:
        return peak_memory(Reads(), *(torch.randn(1, n, d) for d in (widths[0], *widths)))

    assert peak(4096) < 2.5 * peak(2048)
