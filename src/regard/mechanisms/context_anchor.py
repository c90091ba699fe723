"""Context anchor attention: a gate from long strips of an averaged image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, per_axis, positive
from ..core.conv_norm import CONV, NORM
from ..core.strips import strips
from ..core.tracing import leaf


class ContextAnchor(Attention):
    r"""Scales each channel of each position by a gate that sees long strips around it.

    .. math::
        a = \sigma\big(P_2\, D_{k \times 1}\, D_{1 \times k}\, P_1\, \bar x\big), \quad
        y = a \odot x

    where :math:`\bar x` averages x over :math:`7 \times 7` windows, with zeros outside the image,
    D are depthwise convolutions one pixel wide, and P mixes the channels of a position; equations
    3 to 5 of the paper. Block l of the paper's network has :math:`k = 11 + 2l`.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        kernel_size: :math:`k`, odd, or one length for each axis, height first.
        norm: Apply batch norm after :math:`P_1` and :math:`P_2`, instead of a bias.
        activation: Apply SiLU after :math:`P_1` and :math:`P_2`.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b c *``, y as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, or ``dims`` is unknown.

    >>> ContextAnchor(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Context Anchor Attention",
        paper="Poly Kernel Inception Network for Remote Sensing Detection",
        authors="Xinhao Cai, Qiuxia Lai, Yuwei Wang, Wenguan Wang, Zeren Sun, Yazhou Yao",
        venue="CVPR",
        year=2024,
        url="https://arxiv.org/abs/2403.06258",
        code="https://github.com/PKINet/PKINet",
        license="Apache-2.0",
        domain="spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("caa", "pkinet", "context_anchor_attention"),
        differs=(
            "The authors' class has batch norm and SiLU by default (norm=True, activation=True), "
            "and is often copied so; their network switches both off, as here.",
            "The authors' class returns the gate alone; here, as in their network, it is applied.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 11,
        *,
        norm: bool = False,
        activation: bool = False,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of((1, 2, 3), dims=dims)
        kernel_size = per_axis(dims, 1, kernel_size=kernel_size)
        for length in kernel_size:
            odd(kernel_size=length)
        self.axes, self.dims = self.axes.over(dims), dims
        factory = {"device": device, "dtype": dtype}

        def pointwise() -> nn.Sequential:
            conv = CONV[dims](channels, channels, 1, bias=not norm, **factory)
            # The constants of the authors' code.
            normed = NORM[dims](channels, eps=1e-3, momentum=0.03, **factory) if norm else None
            return nn.Sequential(
                conv, normed or nn.Identity(), nn.SiLU() if activation else nn.Identity()
            )

        self.before = pointwise()
        self.strips = strips(channels, kernel_size, dims=dims, **factory)
        self.after = pointwise()

    def attention(self, x: Tensor) -> Tensor:
        return self.after(self.strips(self.before(_average(x, self.dims)))).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


@leaf
def _average(x: Tensor, dims: int) -> Tensor:
    """Average the window of side seven around each position, with zeros outside the image."""
    if dims == 3:  # in two steps: its own operator has no half precision, nor small images
        c, t, h, w = x.shape[1:]
        x = avg_pool2d(x.flatten(1, 2), 7, 1, 3).unflatten(1, (c, t))
        return avg_pool2d(x.flatten(3), (7, 1), 1, (3, 0)).unflatten(3, (h, w))
    return avg_pool2d(x, 7, 1, 3) if dims == 2 else avg_pool1d(x, 7, 1, 3)
