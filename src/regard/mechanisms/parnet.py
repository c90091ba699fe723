"""ParNet block: two parallel convolutions and a shortcut with a squeeze-and-excitation gate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.conv_norm import conv_norm

Prepared = tuple[Tensor, Tensor]  # x before and after its batch norm


class ParNet(Attention):
    r"""Adds two parallel convolutions of x and the batch-normalized x, gated per channel.

    .. math::
        y = \operatorname{SiLU}\big(\mathrm{BN}(K * x) + \mathrm{BN}(W_1 x) + a \odot x'\big),
        \quad a = \sigma(W\,\bar x'), \quad x' = \mathrm{BN}(x)

    where the bar averages over positions: the skip-squeeze-excitation of section 3.1 of the paper.
    If the size changes there is no shortcut, and the gate scales the convolutions:

    .. math::
        y = \operatorname{SiLU}\big(2a \odot (\mathrm{BN}(K * x) +
        \mathrm{BN}(W_1 \operatorname{AvgPool}(x)))\big), \quad a = \sigma(W \bar x)

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; ``in_channels`` by default.
        kernel_size: Kernel size of K, odd.
        stride: Stride of the block.
        groups: Groups of the convolutions and the gate; with several, the channels of y are
            shuffled among them.
        average: With a stride, average-pool before the :math:`1 \times 1` convolution instead of
            striding it.
        norm: Apply batch norm to the shortcut and the input of its gate.
        bias: Add biases to both convolutions and the gate.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b o 1 1``, y ``b o h' w'``: height and width divided by the
        stride, rounded up.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the groups do not divide the
            channels.

    >>> ParNet(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    >>> ParNet(64, 96, stride=2)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 96, 5, 4])
    """

    card = Card(
        title="ParNet Block",
        paper="Non-deep Networks",
        authors="Ankit Goyal, Alexey Bochkovskiy, Jia Deng, Vladlen Koltun",
        venue="NeurIPS",
        year=2022,
        url="https://arxiv.org/abs/2110.07641",
        code="https://github.com/imankgoyal/NonDeepNetworks",
        license="BSD-3-Clause",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="convolution",
        map_invariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("parnet", "skip_squeeze_excitation", "sse", "non_deep"),
        differs=(
            "If the size changes, the authors' code doubles the gate; the paper does not.",
            "Partial windows at the border are averaged over their positions; the authors' code "
            "needs a height and width that are multiples of the stride.",
        ),
    )
    axes = Axes("b c h w", "b o 1 1", output="b o y x", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        average: bool = True,
        norm: bool = True,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        odd(kernel_size=kernel_size)
        divides(in_channels=in_channels, groups=groups)
        divides(out_channels=out_channels, groups=groups)
        self.groups = groups
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        average = average and stride > 1
        self.skips = stride == 1 and in_channels == out_channels
        self.norm = nn.BatchNorm2d(in_channels, **factory) if norm and self.skips else nn.Identity()
        self.gate = nn.Conv2d(in_channels, out_channels, 1, bias=bias, groups=groups, **factory)
        options = {"bias": bias, "groups": groups, **factory}
        self.wide = conv_norm(in_channels, out_channels, kernel_size, stride=stride, **options)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if average else nn.Identity()
        stride = 1 if average else stride
        self.narrow = conv_norm(in_channels, out_channels, stride=stride, **options)

    def prepare(self, x: Tensor) -> Prepared:
        return x, self.norm(x)

    def attention(self, z: Prepared) -> Tensor:
        _, normed = z
        return self.gate(normed.mean((2, 3), keepdim=True)).sigmoid()

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, normed = z
        y = self.wide(x) + self.narrow(self.pool(x))
        y = silu(y + a * normed if self.skips else y * (2 * a))
        if self.groups == 1:
            return y
        return y.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
