"""Pyramid split attention: convolutions of different kernel sizes, scaled by softmax weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive


class PyramidSplit(Attention):
    r"""Convolves with kernels of different sizes and scales each channel of each result.

    The weights of a channel sum to one over the kernels.

    .. math::
        F_k = K_k * x, \quad z_k = \sigma\big(W_2\,\delta(W_1 \bar F_k + b_1) + b_2\big), \quad
        a = \operatorname{softmax}_k(z), \quad y = [a_S \odot F_S; \dots; a_1 \odot F_1]

    for S kernels, where the bar averages over positions and :math:`\delta` is ReLU; section 3.2 of
    the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y, an equal share from each kernel; ``in_channels`` by default.
        kernel_sizes: Side of each kernel, odd.
        stride: Stride of all convolutions.
        kernel_groups: Groups of each kernel's convolution.
        reduction: The hidden layer has :math:`\lfloor C/Sr \rfloor` units for C channels of y.
        order: Order of the kernels' results in y: ``last-first`` as in the authors' code, or
            ``first-last`` as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b k d 1 1`` for k kernels of d channels each, y ``b o h' w'``, smaller
        by the stride.

    Raises:
        ValueError: a size is not positive, a kernel is even, there are fewer than two kernels, the
            numbers of kernels and groups differ, the number of kernels does not divide the channels
            of y, the groups do not divide the channels of x and of a result, the order is unknown,
            or the reduction leaves no hidden unit.

    >>> PyramidSplit(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Pyramid Squeeze Attention",
        paper="EPSANet: An Efficient Pyramid Squeeze Attention Block on Convolutional Neural "
        "Network",
        authors="Hu Zhang, Keke Zu, Jian Lu, Yuru Zou, Deyu Meng",
        venue="ACCV",
        year=2022,
        url="https://arxiv.org/abs/2105.14447",
        code="https://github.com/murufeng/EPSANet",
        license="MIT",
        domain="channel+spatial",
        computes="conv+pool+fc",
        applies="gate",
        kind="convolution",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("psa_pyramid", "psa", "epsanet", "pyramid_squeeze"),
        differs=(
            "The paper concatenates the results from the first kernel to the last "
            "(order='first-last'); the authors' code, and the default here, from the last to the "
            "first.",
        ),
    )
    axes = Axes("b c h w", "b k d 1 1", output="b o y x", range="softmax k")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        stride: int = 1,
        kernel_groups: Sequence[int] = (1, 4, 8, 16),
        reduction: int = 16,
        order: Literal["last-first", "first-last"] = "last-first",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        positive(stride=stride, reduction=reduction)
        one_of(("last-first", "first-last"), order=order)
        if isinstance(kernel_sizes, int) or len(kernel_sizes) < 2:
            raise ValueError(f"kernel_sizes must be two sizes or more, got {kernel_sizes!r}")
        for kernel in kernel_sizes:
            odd(kernel_sizes=kernel)
        if isinstance(kernel_groups, int) or len(kernel_groups) != len(kernel_sizes):
            raise ValueError(
                f"kernel_groups must be {len(kernel_sizes)}, one for each kernel, "
                f"got {kernel_groups!r}"
            )
        divides(out_channels=out_channels, kernel_sizes=len(kernel_sizes))
        branch_channels = out_channels // len(kernel_sizes)
        if reduction > branch_channels:
            raise ValueError(
                f"reduction ({reduction}) must not be larger than the share of each kernel in "
                f"out_channels ({branch_channels}): nothing would be left"
            )
        self.kernel_sizes = tuple(kernel_sizes)
        self.order = order
        factory = {"device": device, "dtype": dtype}

        def branch(kernel: int, groups: int) -> nn.Conv2d:
            divides(in_channels=in_channels, kernel_groups=groups)
            if branch_channels % groups:
                raise ValueError(
                    f"kernel_groups ({groups}) must divide the share of each kernel in "
                    f"out_channels ({branch_channels})"
                )
            return nn.Conv2d(
                in_channels,
                branch_channels,
                kernel,
                stride,
                kernel // 2,
                groups=groups,
                bias=False,
                **factory,
            )

        self.branches = nn.ModuleList(map(branch, kernel_sizes, kernel_groups))
        self.squeeze = nn.Linear(branch_channels, branch_channels // reduction, **factory)
        self.excite = nn.Linear(branch_channels // reduction, branch_channels, **factory)

    def prepare(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]  # k times b d h w

    def attention(self, z: list[Tensor]) -> Tensor:
        pooled = torch.stack([f.mean((2, 3)) for f in z], 1)  # b k d
        scores = self.excite(self.squeeze(pooled).relu()).sigmoid()
        return precision.softmax(scores, 1)[..., None, None]

    def combine(self, a: Tensor, z: list[Tensor]) -> Tensor:
        y = [a[:, k] * f for k, f in enumerate(z)]
        return torch.cat(y[::-1] if self.order == "last-first" else y, 1)
