"""SEAM: widened gates per channel, from depthwise convolutions at one scale or at several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced


class SEAM(Attention):
    r"""Scales each channel by a gate between 1 and e, from features of separate channels.

    .. math::
        a = e^{\sigma(W_2\,\delta(W_1 z))}, \quad z = \overline{B^n(x)}, \quad
        B(u) = N_P\big(u + N_D(u)\big), \quad N_T(u) = \mathrm{BN}\big(\mathrm{GELU}(T u)\big),
        \quad y = a \odot x

    with a :math:`3 \times 3` depthwise convolution D, a pointwise one P, and the bar for the
    average over positions. With patches of sides :math:`p_1, \dots, p_S`,

    .. math::
        z = \tfrac{1}{S + 1}\Big(\bar x + \textstyle\sum_i \overline{B_i^n(N_{E_i}(x))}\Big)

    where :math:`E_i` is a convolution of kernel and stride :math:`p_i`; section 3 of the paper. A
    border that does not fill a patch is left out; an image below a patch is filled up with zeros.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        depth: :math:`n`.
        patch_sizes: The sides :math:`p_i`, for several scales; the paper's are 6, 7 and 8.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c 1 1``, y as x.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no hidden channel.

    >>> SEAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Separated and Enhancement Attention Module",
        paper="YOLO-FaceV2: A Scale and Occlusion Aware Face Detector",
        authors="Ziping Yu, Hongbo Huang, Weijun Chen, Yongxin Su, Yahui Liu, Xiuying Wang",
        venue="Pattern Recognition",
        year=2024,
        url="https://arxiv.org/abs/2208.02019",
        code="https://github.com/Krasjet-Yu/YOLO-FaceV2",
        license="none stated",
        domain="channel",
        computes="conv+pool+fc",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("yolo_facev2", "separated_enhancement", "multi_seam", "multiseam"),
        differs=(
            "Where the reduction leaves no hidden channel, the authors' gate is constant; here "
            "this is an error.",
        ),
    )
    axes = Axes("b c h w", "b c 1 1")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        depth: int = 1,
        patch_sizes: Sequence[int] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        positive(depth=depth)
        for side in patch_sizes:
            positive(patch_sizes=side)
        self.patch_sizes = tuple(patch_sizes)
        factory = {"device": device, "dtype": dtype}

        def branch(*side: int) -> nn.Sequential:
            embed = [
                layer
                for p in side
                for layer in (
                    nn.Conv2d(channels, channels, p, p, **factory),
                    nn.GELU(),
                    nn.BatchNorm2d(channels, **factory),
                )
            ]
            return nn.Sequential(*embed, *(_Mixer(channels, **factory) for _ in range(depth)))

        several = [branch(side) for side in patch_sizes]
        self.branches = nn.ModuleList(several or [branch()])
        self.squeeze = nn.Linear(channels, hidden_dim, bias=False, **factory)
        self.excite = nn.Linear(hidden_dim, channels, bias=False, **factory)

    def attention(self, x: Tensor) -> Tensor:
        if self.patch_sizes:
            pairs = zip(self.branches, self.patch_sizes, strict=True)
            means = [grid.mean(branch(grid.fill_up(x, side))) for branch, side in pairs]
            z = sum(means, grid.mean(x)) / (len(means) + 1)
        else:
            z = grid.mean(self.branches[0](x))
        scores = self.excite(self.squeeze(z).relu())
        return grid.broadcast_gate(scores.sigmoid().exp(), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


class _Mixer(nn.Module):
    """A depthwise convolution with a residual connection, then a pointwise one."""

    def __init__(
        self,
        channels: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, **factory)
        self.depthwise_norm = nn.BatchNorm2d(channels, **factory)
        self.pointwise = nn.Conv2d(channels, channels, 1, **factory)
        self.pointwise_norm = nn.BatchNorm2d(channels, **factory)

    def forward(self, u: Tensor) -> Tensor:
        u = u + self.depthwise_norm(gelu(self.depthwise(u)))
        return self.pointwise_norm(gelu(self.pointwise(u)))
