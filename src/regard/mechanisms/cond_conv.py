"""CondConv: a convolution whose kernel is a mixture of experts, weighted for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, positive, probability
from ..core.mixed_conv import MixedConv, Padding


class CondConv(Attention):
    r"""Convolves each image with its own mixture of expert kernels, routed by global pooling.

    .. math::
        y = \big(\textstyle\sum_e a_e W_e\big) * x + \sum_e a_e b_e, \quad
        a = \sigma(R\,\bar x + r)

    where the bar averages over positions; section 3 of the paper. `CondConvBlock` is a bottleneck
    of three convolutions with one routing, as in the paper's network.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the kernels, or one for each axis.
        num_experts: Number of kernels to mix.
        stride: Stride, or one for each axis.
        padding: Zeros on each side, or one number for each axis; ``same`` keeps the size, or
            divides it by the stride and rounds up, as TensorFlow does; ``valid`` adds none. By
            default the kernel is centered and must be odd.
        dilation: Dilation, or one for each axis.
        groups: Groups of the convolution.
        bias: Give the convolution a bias.
        mix_bias: Mix the experts' biases too; if False, all share one.
        route_bias: Give the routing a bias.
        dropout: Dropout rate of the averages from which the routing is computed.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b e`` for the e experts, y ``b o h' w'``.

    Raises:
        ValueError: a size is not positive, the groups do not divide the channels, the padding is
            negative or unknown, or missing for an even kernel, or the dropout is not a rate.

    >>> CondConv(64, kernel_size=3)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Conditionally Parameterized Convolution",
        paper="CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
        authors="Brandon Yang, Gabriel Bender, Quoc V. Le, Jiquan Ngiam",
        venue="NeurIPS",
        year=2019,
        url="https://arxiv.org/abs/1904.04971",
        code="https://github.com/tensorflow/tpu",
        license="Apache-2.0",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="convolution",
        map_invariant=("pixels",),
        cost=dict(time="n c^2", memory="n c"),
        aliases=("condconv", "conditional_convolution"),
        differs=(
            "The paper's routing has no bias (route_bias=False); in the authors' code, and by "
            "default here, it has one.",
            "The authors pad as TensorFlow does (padding='same'), which at a stride of two adds "
            "more at the end; the default here adds the same on both sides.",
        ),
    )
    axes = Axes("b c h w", "b e", output="b o y x", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int | Sequence[int] = 3,
        *,
        num_experts: int = 8,
        stride: int | Sequence[int] = 1,
        padding: Padding = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = False,
        mix_bias: bool = True,
        route_bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        positive(in_channels=in_channels, num_experts=num_experts)
        probability(dropout=dropout)
        factory = {"device": device, "dtype": dtype}
        self.drop = nn.Dropout(dropout)
        self.route = nn.Linear(in_channels, num_experts, route_bias, **factory)
        self.mixture = MixedConv(
            in_channels,
            out_channels,
            kernel_size,
            num_experts,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            mix_bias=mix_bias,
            **factory,
        )

    def start_from(self, convolution: nn.Conv2d) -> None:
        r"""Copy it into every expert, and route so that y is what it was for every input.

        Not if the experts have another size or other groups. Each second expert is routed by the
        negative of what routes the one before, so that their two weights,
        :math:`\sigma(s) + \sigma(-s)`, sum to one; one that is left over has a weight of a half.
        Unlike equal routings, which would also get equal gradients, these let the experts part.
        """
        experts = self.route.out_features
        if self.mixture.copy_from(convolution, 2 / experts):
            with torch.no_grad():
                for parameter in self.route.parameters():
                    pairs = parameter[: experts - experts % 2]
                    pairs[1::2] = -pairs[::2]
                    parameter[len(pairs) :] = 0

    def attention(self, x: Tensor) -> Tensor:
        return self.route(self.drop(grid.mean(x))).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.mixture(x, a)


class CondConvBlock(Attention):
    r"""Applies an inverted bottleneck of three mixed convolutions that share one routing.

    .. math::
        y = x + \mathrm{BN}\,P_a\;\delta\,\mathrm{BN}\,D_a\;\delta\,\mathrm{BN}\,E_a\,x, \quad
        W_a = \textstyle\sum_e a_e W_e, \quad a = \sigma(R\,\bar x + r)

    with :math:`1 \times 1` convolutions E and P, a depthwise one D, and :math:`\delta` = SiLU; the
    block of the networks in section 4 of the paper, without squeeze-and-excitation. If y has
    another size than x, there is no residual connection.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: Side of the depthwise kernels, odd.
        num_experts: Number of kernels to mix in each convolution.
        stride: Stride of the depthwise convolution.
        expansion: Hidden channels as a multiple of ``in_channels``.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b e`` for the e experts, y ``b o h' w'``.

    Raises:
        ValueError: a size is not positive, or the kernel is even.

    >>> CondConvBlock(16)(torch.randn(2, 16, 9, 7)).shape
    torch.Size([2, 16, 9, 7])
    """

    card = replace(CondConv.card, computes="pool+fc", train_differs=True)
    axes = Axes("b c h w", "b e", output="b o y x", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        num_experts: int = 8,
        stride: int = 1,
        expansion: int = 6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, num_experts=num_experts)
        positive(stride=stride, expansion=expansion)
        odd(kernel_size=kernel_size)
        factory = {"device": device, "dtype": dtype}
        hidden_dim = expansion * in_channels
        self.residual = stride == 1 and in_channels == out_channels
        self.route = nn.Linear(in_channels, num_experts, **factory)
        self.widen = MixedConv(in_channels, hidden_dim, 1, num_experts, **factory)
        self.widen_norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.depthwise = MixedConv(
            hidden_dim,
            hidden_dim,
            kernel_size,
            num_experts,
            stride=stride,
            groups=hidden_dim,
            **factory,
        )
        self.depthwise_norm = nn.BatchNorm2d(hidden_dim, **factory)
        self.narrow = MixedConv(hidden_dim, out_channels, 1, num_experts, **factory)
        self.narrow_norm = nn.BatchNorm2d(out_channels, **factory)

    def attention(self, x: Tensor) -> Tensor:
        return self.route(grid.mean(x)).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        y = silu(self.widen_norm(self.widen(x, a)))
        y = silu(self.depthwise_norm(self.depthwise(y, a)))
        y = self.narrow_norm(self.narrow(y, a))
        return x + y if self.residual else y
