"""Class-specific residual attention: class scores from average pooling plus attention pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, positive


class ClassResidual(Attention):
    r"""Scores classes by average pooling plus attention pooling of each class's own score map.

    .. math::
        y_k = \textstyle\sum_h \Big(\tfrac1n \sum_i s_{hki} + \lambda \sum_i a_{hki} s_{hki}\Big),
        \quad a_{hki} = \operatorname{softmax}_i(T_h s_{hki}), \quad
        s_{hki} = \frac{w_{hk}^\top x_i}{\lVert w_{hk} \rVert}

    for n positions i, heads h and classes k; an infinite temperature T selects the maximum. Section
    3 of the paper.

    Args:
        channels: Channels of x.
        num_classes: Classes to score.
        num_heads: Classifiers whose scores are added.
        residual_weight: :math:`\lambda`.
        temperatures: :math:`T` of each head, a number or ``max``; by default the authors', 1 for
            one head, 1 and ``max`` for two, and so on.
        normalize: Divide by the norm of :math:`w`, as the authors' code does.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads k n`` for k classes and n positions, y ``b k``.

    Raises:
        ValueError: a size is not positive, a temperature is not above zero, or there is not one
            for each head.

    >>> ClassResidual(64, num_classes=10, num_heads=2)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 10])
    """

    card = Card(
        title="Class-specific Residual Attention",
        paper="Residual Attention: A Simple but Effective Method for Multi-Label Recognition",
        authors="Ke Zhu, Jianxin Wu",
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2108.02456",
        code="https://github.com/Kevinz-code/CSRA",
        license="AGPL-3.0",
        domain="channel+spatial",
        computes="fc",
        applies="matmul+add",
        kind="head",
        equivariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("csra", "residual_attention"),
        differs=(
            "The authors' code, and the default here, divides the scores of a class by the norm of "
            "its weights; the paper does not (normalize=False).",
            "The mean plus the maximum, as in the paper's listing, is temperatures=('max',) "
            "with normalize=False.",
        ),
    )
    axes = Axes("b c h w", "b heads k n", output="b k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_classes: int,
        num_heads: int = 1,
        *,
        residual_weight: float = 0.1,
        temperatures: Sequence[float | str] | None = None,
        normalize: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_classes=num_classes, num_heads=num_heads)
        self.num_heads = num_heads
        self.residual_weight = residual_weight
        self.normalize = normalize
        chosen = usual_temperatures(num_heads) if temperatures is None else tuple(temperatures)
        if len(chosen) != num_heads:
            raise ValueError(f"temperatures must be {num_heads}, one for each head, got {chosen!r}")
        for temperature in chosen:
            if isinstance(temperature, str) and temperature != "max":
                raise ValueError(f"temperatures must be numbers or 'max', got {temperature!r}")
            if not isinstance(temperature, str):
                above_zero(temperatures=temperature)
        self.temperatures = chosen
        only_max = set(chosen) == {"max"}
        self.axes = replace(
            self.axes,
            map="b heads k n" if num_heads > 1 else "b 1 k n",
            range="unit" if only_max else "softmax",
        )
        self.classify = nn.Linear(channels, num_heads * num_classes, False, device, dtype)

    def prepare(self, x: Tensor) -> Tensor:
        w = self.classify.weight
        w = normalize(w, dim=1) if self.normalize else w
        s = conv2d(x, w[:, :, None, None])  # faster than one matrix product per image
        return s.flatten(2).unflatten(1, (self.num_heads, -1))  # b heads k n

    def attention(self, z: Tensor) -> Tensor:
        heads = self.split_heads(z)
        maps = [_attention_weights(heads[h], t) for h, t in enumerate(self.temperatures)]
        return torch.stack(maps, 1)

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        return (z.mean(3) + self.residual_weight * (a * z).sum(3)).sum(1)

    def fused(self, z: Tensor) -> Tensor:
        heads = self.split_heads(z)
        residuals = [_attention_pool(heads[h], t) for h, t in enumerate(self.temperatures)]
        return z.mean(3).sum(1) + self.residual_weight * torch.stack(residuals).sum(0)

    def split_heads(self, z: Tensor) -> Sequence[Tensor]:
        """Return the scores of each head, ``b k n`` each."""
        # A view for one head: the backward pass of unbind would copy the whole tensor.
        return (z.squeeze(1),) if self.num_heads == 1 else z.unbind(1)


def usual_temperatures(num_heads: int) -> tuple[float | str, ...]:
    """Return the temperatures that the authors use for this number of heads.

    >>> usual_temperatures(1), usual_temperatures(2), usual_temperatures(4)
    ((1,), (1, 'max'), (1, 2, 4, 'max'))
    """
    if num_heads == 4:
        return (1, 2, 4, "max")
    return (*range(1, num_heads), "max") if num_heads > 1 else (1,)


def _attention_weights(s: Tensor, temperature: float | str) -> Tensor:
    """Return the softmax over the positions, or one-hot weights of the maximum."""
    if temperature == "max":
        return torch.zeros_like(s).scatter(-1, s.argmax(-1, keepdim=True), 1.0)
    return precision.softmax(temperature * s, -1)


def _attention_pool(s: Tensor, temperature: float | str) -> Tensor:
    """Return the scores averaged with these weights, ``b k``."""
    if temperature == "max":
        return grid.amax(s, 2)
    return (_attention_weights(s, temperature) * s).sum(2)
