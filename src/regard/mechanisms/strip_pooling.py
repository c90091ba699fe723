"""Strip pooling: a gate at every position, from the averages of its row and its column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core import grid
from ..core.attention import Attention, Mechanism, names_itself
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive, reduced
from ..core.conv_norm import conv_norm


class StripPooling(Attention):
    r"""Scales each entry by a gate computed from the averages of its row and its column.

    .. math::
        a_{ij} = \sigma\big(W\,\delta(u_i + v_j)\big), \quad
        u = \mathrm{BN}(k^h * \operatorname{mean}_w x), \quad
        v = \mathrm{BN}(k^w * \operatorname{mean}_h x), \quad y = a \odot x

    where :math:`k^h` and :math:`k^w` are kernels along one axis, W is a :math:`1 \times 1`
    convolution and :math:`\delta` is ReLU; section 3.1 of the paper. `MixedPooling` is the module
    of section 3.2.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        kernel_size: Length of both kernels, odd.
        norm: Put a batch norm after each of the two.
        activation: Activation before W: ``relu``, or None.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the activation is unknown.

    >>> StripPooling(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Strip Pooling",
        paper="Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
        authors="Qibin Hou, Li Zhang, Ming-Ming Cheng, Jiashi Feng",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/2003.13328",
        code="https://github.com/houqb/SPNet",
        license="MIT",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("strip_pooling", "spnet", "strip_pooling_module", "mixed_pooling"),
        differs=(
            "The authors' code, and the default here, has a batch norm after each of the two "
            "kernels and a ReLU before the last layer; the paper's equations have neither "
            "(norm=False, activation=None).",
        ),
    )
    axes = Axes("b c h w", "b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        norm: bool = True,
        activation: Literal["relu"] | None = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        odd(kernel_size=kernel_size)
        one_of(("relu", None), activation=activation)
        self.activation = activation
        factory = {"device": device, "dtype": dtype}

        def strip_conv() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv1d(
                    channels, channels, kernel_size, padding=kernel_size // 2, bias=False, **factory
                ),
                nn.BatchNorm1d(channels, **factory) if norm else nn.Identity(),
            )

        self.rows, self.columns = strip_conv(), strip_conv()
        self.out = nn.Conv2d(channels, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        u = self.rows(x.mean(3))  # b c h
        v = self.columns(x.mean(2))  # b c w
        z = u.unsqueeze(3) + v.unsqueeze(2)
        return self.out(z.relu() if self.activation else z).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class MixedPooling(Mechanism):
    r"""Adds to x features pooled over a pyramid of bins, and over whole rows and columns.

    .. math::
        y = \delta\big(x + \mathrm{BN}(W [s; t])\big), \quad
        s = f\Big(\delta\big(K_0 x_1 + \textstyle\sum_k \operatorname{Up}(K_k B_k x_1)\big)\Big),
        \quad t = f'\big(\delta(k^h * \operatorname{mean}_w x_2 + k^w * \operatorname{mean}_h x_2)
        \big)

    where :math:`x_1, x_2` are two projections of x to fewer channels, :math:`B_k` averages over k
    by k bins, Up is bilinear with aligned corners, :math:`f` and :math:`f'` are convolutions with
    :math:`\delta` = ReLU, and a batch norm follows each kernel; section 3.2 of the paper.

    Args:
        channels: :math:`C`.
        reduction: The projections have :math:`\lfloor C/r \rfloor` channels.
        bins: Numbers k of bins along a side.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y as x; there is no attention map.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no channel.

    >>> MixedPooling(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(StripPooling.card, applies="add", kind="head")
    axes = Axes("b c h w", "", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        bins: Sequence[int] = (20, 12),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        for k in bins:
            positive(bins=k)
        self.bins = tuple(bins)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def strip_conv(kernel_size: tuple[int, int], padding: tuple[int, int]) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(
                    hidden_dim, hidden_dim, kernel_size, padding=padding, bias=False, **factory
                ),
                nn.BatchNorm2d(hidden_dim, **factory),
            )

        self.narrow_short = conv_norm(channels, hidden_dim, activation=nn.ReLU(), **factory)
        self.narrow_long = conv_norm(channels, hidden_dim, activation=nn.ReLU(), **factory)
        self.here = conv_norm(hidden_dim, hidden_dim, 3, **factory)
        self.binned = nn.ModuleList(conv_norm(hidden_dim, hidden_dim, 3, **factory) for _ in bins)
        self.columns = strip_conv((1, 3), (0, 1))
        self.rows = strip_conv((3, 1), (1, 0))
        self.short = conv_norm(hidden_dim, hidden_dim, 3, activation=nn.ReLU(), **factory)
        self.long = conv_norm(hidden_dim, hidden_dim, 3, activation=nn.ReLU(), **factory)
        self.widen = conv_norm(2 * hidden_dim, channels, **factory)

    @names_itself
    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        z = self.narrow_short(x)
        s = self.here(z)
        for k, conv in zip(self.bins, self.binned, strict=True):
            pooled = conv(grid.adaptive_avg_pool2d(z, (k, k)))
            s = s + interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True)
        z = self.narrow_long(x)
        u = self.rows(z.mean(3, keepdim=True))  # b d h 1
        v = self.columns(z.mean(2, keepdim=True))  # b d 1 w
        y = torch.cat([self.short(s.relu()), self.long((u + v).relu())], 1)
        return grid.relu(x + self.widen(y))
