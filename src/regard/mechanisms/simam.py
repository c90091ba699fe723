"""SimAM: a parameter-free gate per entry, from its squared distance to the channel mean."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, positive
from ..core.tracing import at_least


class SimAM(Attention):
    r"""Scales each entry by a gate that grows with its squared distance to the channel mean.

    .. math::
        a = \sigma\Big(\frac{d}{4(v + \lambda)} + \frac12\Big), \quad d = (x - \mu)^2, \quad
        v = \frac{1}{n - 1}\textstyle\sum d, \quad y = a \odot x

    with the mean :math:`\mu` and the variance :math:`v` of each channel over its
    :math:`n` positions; equation 5 of the paper.

    Args:
        channels: :math:`C`, only checked: there are no parameters.
        eps: :math:`\lambda`.
        unbiased: Divide by :math:`n - 1` as the authors' code does; the paper divides by :math:`n`.
        device: Unused: there are no parameters.
        dtype: Unused.

    Shape:
        x ``b c *`` (one to three axes of space and time), map and y as x.

    Raises:
        ValueError: ``channels`` is not positive, or ``eps`` is not above zero.

    >>> SimAM()(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="SimAM",
        paper="SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
        authors="Lingxiao Yang, Ru-Yuan Zhang, Lida Li, Xiaohua Xie",
        venue="ICML",
        year=2021,
        url="https://proceedings.mlr.press/v139/yang21o.html",
        code="https://github.com/ZjjConan/SimAM",
        license="none stated",
        domain="channel+spatial",
        computes="pool",
        applies="gate",
        kind="gate",
        equivariant=("pixels", "channels"),
        independent=("channels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("simam", "simple_parameter_free"),
        differs=(
            "The paper's variance divides by the number of positions; the authors' code, and the "
            "default here, by one less (unbiased=False is the paper's).",
            "For a single position the gate is that of an entry equal to the mean; the authors' "
            "code returns NaN.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int | None = None,
        *,
        eps: float = 1e-4,
        unbiased: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**({} if channels is None else {"c": channels}))
        if channels is not None:
            positive(channels=channels)
        above_zero(eps=eps)
        self.eps = eps
        self.unbiased = unbiased

    def attention(self, x: Tensor) -> Tensor:
        flat = precision.widen(x).flatten(2)
        d = (flat - flat.mean(2, keepdim=True)).square()
        n = flat.shape[2]
        v = d.sum(2, keepdim=True) / (at_least(n - 1, 1) if self.unbiased else n)
        k = 0.25 / (v + self.eps)
        return (d * k).add_(0.5).sigmoid_().to(x.dtype).reshape(x.shape)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
