"""ParNet's block: two kernels side by side, and a shortcut that is gated by its own average."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive


class ParNet(Attention):
    r"""Adds what a wide and a narrow kernel see of x to x itself, weighed channel by channel.

    .. math::
        y = \operatorname{SiLU}\big(\mathrm{BN}(K * x) + \mathrm{BN}(W_1 x) + a \odot x'\big),
        \quad a = \sigma(W\,\bar x'), \quad x' = \mathrm{BN}(x)

    where the bar averages over positions: the skip-squeeze-excitation of section 3.1 of the paper.
    Where sizes change there is no :math:`x'` to add, and the gate of x weighs the kernels:

    .. math::
        y = \operatorname{SiLU}\big(2a \odot (\mathrm{BN}(K * x) +
        \mathrm{BN}(W_1 \operatorname{AvgPool}(x)))\big), \quad a = \sigma(W \bar x)

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of the wide kernel, odd.
        stride: Stride of the block.
        average: The narrow kernel reads averages of windows as wide as the stride, instead of the
            first position of each.
        norm: Normalize the shortcut, and what its gate reads, by a batch norm.
        bias: Give both kernels and the gate biases.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b o 1 1``, y ``b o h' w'``, smaller by the stride.

    Raises:
        ValueError: a size is not positive, or the kernel is even.

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
            "Where sizes change, the authors' code doubles the gate; the paper does not.",
            "A window at the border that is not full is averaged as it is; the authors' code "
            "needs sides that the stride divides.",
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
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def convolve(side: int, step: int) -> nn.Sequential:
            kernel = nn.Conv2d(
                in_channels, out_channels, side, step, side // 2, bias=bias, **factory
            )
            return nn.Sequential(kernel, nn.BatchNorm2d(out_channels, **factory))

        average = average and stride > 1
        self.skips = stride == 1 and in_channels == out_channels
        self.norm = nn.BatchNorm2d(in_channels, **factory) if norm and self.skips else nn.Identity()
        self.gate = nn.Linear(in_channels, out_channels, bias, **factory)
        self.wide = convolve(kernel_size, stride)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if average else nn.Identity()
        self.narrow = convolve(1, 1 if average else stride)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, self.norm(x)

    def attention(self, x: tuple[Tensor, Tensor]) -> Tensor:
        return grid.broadcast_gate(self.gate(grid.mean(x[1])).sigmoid(), x[0])

    def combine(self, a: Tensor, x: tuple[Tensor, Tensor]) -> Tensor:
        y = self.wide(x[0]) + self.narrow(self.pool(x[0]))
        return silu(y + a * x[1] if self.skips else y * (2 * a))
