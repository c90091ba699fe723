"""ResNeSt: a residual network whose convolutions are split, and their parts weighed by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.card import Card
from ..core.check import divides, odd, positive
from ..core.reference import Source, rename
from .classifier import Classifier, kaiming


class SplitAttention(Attention):
    r"""Convolves x by R kernels, and weighs each channel of one result against the others'.

    .. math::
        U_r = \delta(\mathrm{BN}(K_r * x)), \quad
        z = W_2\,\delta\big(\mathrm{BN}(W_1 \textstyle\sum_r \bar U_r)\big), \quad
        a = \operatorname{softmax}_r(z), \quad y = \textstyle\sum_r a_r \odot U_r

    in each of K groups of channels, where the bar averages over positions, :math:`\delta` is ReLU,
    both matrices have biases, and a is :math:`\sigma(z)` for R = 1. Equations 1 to 3 of the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; as many by default.
        kernel_size: Side of every kernel, odd.
        stride: Stride of every kernel.
        dilation: Dilation of every kernel.
        groups: :math:`K`, the paper's cardinality.
        radix: :math:`R`.
        reduction: The hidden width is :math:`\max(32, R\,C/r)` for C channels of x.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b r o 1 1`` over the r splits, y ``b o h' w'``, smaller by the stride.

    Raises:
        ValueError: a size is not positive, the kernel is even, or the groups do not divide the
            hidden width, or the groups and splits not the channels.

    >>> SplitAttention(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Split Attention",
        paper="ResNeSt: Split-Attention Networks",
        authors=(
            "Hang Zhang",
            "Chongruo Wu",
            "Zhongyue Zhang",
            "Yi Zhu",
            "Haibin Lin",
            "Zhi Zhang",
            "Yue Sun",
            "Tong He",
            "Jonas Mueller",
            "R. Manmatha",
            "Mu Li",
            "Alexander Smola",
        ),
        venue="CVPR Workshops",
        year=2022,
        url="https://arxiv.org/abs/2004.08955",
        code="https://github.com/zhanghang1989/ResNeSt",
        licence="Apache-2.0",
        domain="branch",
        computes="pool+fc",
        applies="select",
        kind="convolution",
        map="b r o 1 1",
        output="b o y x",
        range="softmax r",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("splat", "resnest"),
        differs=(
            "With groups, the splits of one channel lie as far apart as in the released code, "
            "the first ones of all groups together; in the paper those of one group lie together.",
        ),
        references={"timm:SplitAttn": ""},
        example=dict(in_channels=16),
        variants=(
            dict(out_channels=24, stride=2, groups=2),
            dict(radix=1, kernel_size=5),
            dict(radix=4, dilation=2, reduction=1),
        ),
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        radix: int = 2,
        reduction: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        positive(dilation=dilation, groups=groups, radix=radix, reduction=reduction)
        odd(kernel_size=kernel_size)
        wide, hidden = radix * out_channels, max(32, in_channels * radix // reduction)
        divides(in_channels=in_channels, groups_and_splits=groups * radix)
        divides(out_channels=out_channels, groups=groups)
        divides(hidden_width=hidden, groups=groups)
        self.radix, self.groups = radix, groups
        self.card = replace(self.card, range="softmax r" if radix > 1 else "unit")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        around = dilation * (kernel_size // 2)
        geometry = (kernel_size, stride, around, dilation, groups * radix)
        self.split = nn.Sequential(
            nn.Conv2d(in_channels, wide, *geometry, bias=False, **factory),
            nn.BatchNorm2d(wide, **factory),
            nn.ReLU(),
        )
        # Convolutions of one position, because matrices have no groups.
        self.squeeze = nn.Conv2d(out_channels, hidden, 1, groups=groups, **factory)
        self.norm = nn.BatchNorm2d(hidden, **factory)
        self.excite = nn.Conv2d(hidden, wide, 1, groups=groups, **factory)

    def embed(self, x: Tensor) -> Tensor:
        """The results of all kernels."""
        return self.split(x).unflatten(1, (self.radix, -1))  # b r o h w

    def attention(self, x: Tensor) -> Tensor:
        """How much of each result goes into each channel."""
        z = x.sum(1).mean((2, 3), keepdim=True)  # b o 1 1
        z = grid.several(self.squeeze(z), type(self).__name__, self.training)
        z = self.excite(self.norm(z).relu())
        # Its groups are those of the channels, and in each are the splits.
        z = z.unflatten(1, (self.groups, self.radix, -1)).transpose(1, 2).flatten(2, 3)
        return precision.softmax(z, 1) if self.radix > 1 else z.sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        """Their weighted sum."""
        return (a * x).sum(1)

    @classmethod
    def translate(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[SplitAttention, Mapping[str, Tensor]]:
        """Say how timm's is written here."""
        how = {name: kwargs[name] for name in ("stride", "dilation", "groups") if name in kwargs}
        module = cls(
            kwargs["in_channels"],
            kwargs.get("out_channels"),
            kwargs.get("kernel_size", 3),
            radix=kwargs.get("radix", 2),
            **how,
        )
        names = {"conv": "split.0", "bn0": "split.1", "fc1": "squeeze", "bn1": "norm"}
        return module, rename(state, names | {"fc2": "excite"})


class ResNeSt(Classifier):
    """The classifier of "ResNeSt: Split-Attention Networks".

    A ResNet of bottlenecks with `SplitAttention` as their second convolution; averages take the
    strides, behind it and in the shortcut, and three small convolutions begin.

    Args:
        layers: Blocks of each stage: (3, 4, 6, 3) is ResNeSt-50; with a ``stem`` of 64, (3, 4, 23,
            3) is ResNeSt-101, (3, 24, 36, 3) ResNeSt-200 and (3, 30, 48, 8) ResNeSt-269.
        num_classes: Scores of an image; 0 gives the averaged features.
        in_chans: Channels of an image.
        width: Channels of the first stage's bottlenecks; those of each next one are twice as wide.
        stem: Channels of the first convolution.
        radix: Splits of each convolution.
        groups: Groups of each convolution, the paper's cardinality.
        drop_rate: Rate of dropping averaged features in training.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, the scores ``b k``.

    Raises:
        ValueError: a size is not positive, or the groups or splits do not divide the width.

    >>> ResNeSt((1, 1), num_classes=10, width=8)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in ResNeSt(device="meta").parameters())
    27483240
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 6, 3),
        num_classes: int = 1000,
        in_chans: int = 3,
        *,
        width: int = 64,
        stem: int = 32,
        radix: int = 2,
        groups: int = 1,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_chans=in_chans, width=width, stem=stem)
        super().__init__(width * 2 * 2 ** len(layers), drop_rate)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = nn.Sequential(
            *_convolve(in_chans, stem, 3, 2, **factory),
            nn.ReLU(),
            *_convolve(stem, stem, 3, **factory),
            nn.ReLU(),
            *_convolve(stem, 2 * stem, 3, **factory),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages = []
        before = 2 * stem
        for i, number in enumerate(layers):
            positive(layers=number)
            channels = width * 4 * 2**i
            how = {"radix": radix, "groups": groups, **factory}
            first = _Bottleneck(before, channels, stride=2 if i else 1, **how)
            others = (_Bottleneck(channels, channels, **how) for _ in range(number - 1))
            stages.append(nn.Sequential(first, *others))
            before = channels
        self.stages = nn.Sequential(*stages)
        self.reset_classifier(num_classes)
        kaiming(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """The features before they are averaged, a 32nd of the image's height and width."""
        return self.stages(self.stem(x))


def _convolve(
    channels: int, out: int, kernel_size: int = 1, stride: int = 1, **factory: Any
) -> list[nn.Module]:
    size = (kernel_size, stride, kernel_size // 2)
    convolution = nn.Conv2d(channels, out, *size, bias=False, **factory)
    return [convolution, nn.BatchNorm2d(out, **factory)]


class _Bottleneck(nn.Module):
    """Narrow, split attention, wide; both the branch and the shortcut are averaged to a stride."""

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        stride: int = 1,
        radix: int,
        groups: int,
        **factory: Any,
    ) -> None:
        super().__init__()
        hidden = out // 4
        self.branch = nn.Sequential(
            *_convolve(channels, hidden, **factory),
            nn.ReLU(),
            SplitAttention(hidden, radix=radix, groups=groups, **factory),
            nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity(),
            *_convolve(hidden, out, **factory),
        )
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        if stride > 1 or channels != out:
            shortcut += _convolve(channels, out, **factory)
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return (self.branch(x) + self.shortcut(x)).relu()
