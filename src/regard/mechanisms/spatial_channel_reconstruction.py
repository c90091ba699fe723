"""ScConv: redundant positions and channels are told apart by gates, and reconstructed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive, probability
from ..core.conv_norm import CONV
from ..core.tracing import at_least, leaf

Pair = tuple[Tensor, Tensor]


class SpatialChannelReconstruction(Attention):
    r"""Reconstructs positions, then weighs a rich and a cheap transformation of the channels.

    .. math::
        y = \beta_1 \odot z_1 + \beta_2 \odot z_2, \quad
        z_1 = K * p + P_1 p, \quad z_2 = [P_2 q; q], \quad p = S_1 x'_1, \quad q = S_2 x'_2

    where x' is the output of `SpatialReconstruction`, split into a share :math:`\alpha` of its
    channels and the rest, S reduce the channels, P are pointwise convolutions, K is a grouped one,
    and :math:`\beta` is a softmax over the averages of :math:`z_1` and :math:`z_2`; section 3.2 of
    the paper.

    In bfloat16, the roundings of its layers add up to a little more than one percent.

    Args:
        channels: :math:`C`, even.
        norm_groups: Groups of the norm of `SpatialReconstruction`.
        threshold: :math:`\theta` of `SpatialReconstruction`.
        alpha: :math:`\alpha`, above 0 and below 1.
        reduction: How many times fewer channels S leave.
        groups: Groups of K.
        kernel_size: Side of K, odd.
        fusion: What the softmax is over: ``all`` averages of both transformations, as in the code
            that is generally used, or the ``pair`` of each channel, as in the paper.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b k c 1*`` for the two transformations;
        y as x.

    Raises:
        ValueError: a size is not positive, the channels are odd, groups do not divide them, alpha
            or the threshold are outside their ranges, no channels would be left, the kernel is
            even, or a choice is unknown.

    >>> SpatialChannelReconstruction(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Spatial and Channel Reconstruction Convolution",
        paper="SCConv: Spatial and Channel Reconstruction Convolution for Feature Redundancy",
        authors="Jiafeng Li, Ying Wen, Lianghua He",
        venue="CVPR",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Li_SCConv_Spatial_and_Channel_Reconstruction_Convolution_for_Feature_Redundancy_CVPR_2023_"
        "paper.html",
        code="https://github.com/cheng-haha/ScConv",
        license="none stated",
        domain="channel+spatial",
        computes="conv+pool",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("scconv", "sru_cru", "scconv_cvpr23", "sru", "cru"),
        differs=(
            "The authors released no code; the default is the copy in general use.",
            "The paper normalizes the weights of a channel in pairs (fusion='pair'); the copy over "
            "all channels of both transformations, which divides y by about their number.",
            "The paper does not say what becomes of weights below the threshold; in the copy they "
            "keep their value in both gates. Its versions before October 2023 had masks of 0 and "
            "1.",
        ),
    )
    axes = Axes("b c *", "channel: b k c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        *,
        norm_groups: int = 4,
        threshold: float = 0.5,
        alpha: float = 0.5,
        reduction: int = 2,
        groups: int = 2,
        kernel_size: int = 3,
        fusion: Literal["all", "pair"] = "all",
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, norm_groups=norm_groups)
        positive(reduction=reduction, groups=groups)
        odd(kernel_size=kernel_size)
        one_of(("all", "pair"), fusion=fusion)
        one_of((1, 2, 3), dims=dims)
        upper = int(alpha * channels)
        rich, cheap = upper // reduction, (channels - upper) // reduction
        if not 0 < alpha < 1 or rich < 1 or cheap < 1:
            raise ValueError(
                f"alpha ({alpha}) and reduction ({reduction}) must leave channels on both sides "
                f"of {channels}, got {rich} and {cheap}"
            )
        for name, width in (("channels", channels), ("the reduced channels", rich)):
            if width % groups:
                raise ValueError(f"groups ({groups}) must divide {name} ({width})")
        self.axes = self.axes.over(dims)
        if fusion == "pair":
            self.axes = replace(self.axes, range="softmax k")
        self.upper, self.fusion = upper, fusion
        factory = {"device": device, "dtype": dtype}
        conv = CONV[dims]
        self.spatial = SpatialReconstruction(channels, norm_groups, threshold=threshold, **factory)
        self.squeeze_rich = conv(upper, rich, 1, bias=False, **factory)
        self.squeeze_cheap = conv(channels - upper, cheap, 1, bias=False, **factory)
        self.grouped = conv(
            rich, channels, kernel_size, padding=kernel_size // 2, groups=groups, **factory
        )
        self.pointwise = conv(rich, channels, 1, bias=False, **factory)
        self.cheap = conv(cheap, channels - cheap, 1, bias=False, **factory)

    def prepare(self, x: Tensor) -> Pair:
        x = self.spatial(x)
        p, q = self.squeeze_rich(x[:, : self.upper]), self.squeeze_cheap(x[:, self.upper :])
        return self.grouped(p) + self.pointwise(p), torch.cat([self.cheap(q), q], 1)

    def attention(self, z: Pair) -> Tensor:
        averages = torch.stack([grid.mean(part) for part in z], 1)  # b 2 c
        if self.fusion == "pair":
            a = precision.softmax(averages, 1)
        else:
            a = precision.softmax(averages.flatten(1), 1).unflatten(1, (2, -1))
        return grid.over_positions(a, z[0])

    def combine(self, a: Tensor, z: Pair) -> Tensor:
        rich, cheap = z
        return rich * a[:, 0] + cheap * a[:, 1]


class SpatialReconstruction(Attention):
    r"""Separates informative positions of each channel from the others, and adds both crosswise.

    .. math::
        r_c = \sigma\big(\mathrm{GN}(x)_c\, \gamma_c / \textstyle\sum \gamma\big), \quad
        [u_1; u_2] = [r > \theta\,?\,1 : r] \odot x, \quad
        [v_1; v_2] = [r > \theta\,?\,0 : r] \odot x, \quad
        y = [u_1 + v_2; u_2 + v_1]

    where :math:`\gamma` are the weights of the group norm, and the brackets are halves of the
    channels; section 3.1 of the paper.

    In half precision, the gate is computed in single precision: it is a step.

    Args:
        channels: :math:`C`, even.
        groups: Groups of the norm.
        threshold: :math:`\theta`, at least 0 and below 1.
        norm: The ``group`` norm of torch, or one that is ``unbiased``: it divides by the unbiased
            standard deviation, plus 1e-10.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c *``, the numbers r; y as x. The
        parts are the two gates, ``b c *``.

    Raises:
        ValueError: a size is not positive, the channels are odd or not divisible by the groups, the
            threshold is outside its range, or the norm is unknown.

    >>> SpatialReconstruction(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = replace(
        SpatialChannelReconstruction.card,
        computes="pool",
        equivariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
    )
    axes = Axes(
        "b c *",
        "reweights: b c *",
        parts=dict(informative="b c *", noninformative="b c *"),
        range="unit",
    )

    def __init__(
        self,
        channels: int,
        groups: int = 16,
        *,
        threshold: float = 0.5,
        norm: Literal["group", "unbiased"] = "group",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, groups=groups)
        if channels % 2:
            raise ValueError(f"channels must be even, got {channels}")
        probability(threshold=threshold)
        one_of(("group", "unbiased"), norm=norm)
        self.threshold, self.unbiased = threshold, norm == "unbiased"
        self.norm = nn.GroupNorm(groups, channels, device=device, dtype=dtype)
        self.tap_informative, self.tap_noninformative = Tap(), Tap()

    def attention(self, x: Tensor) -> Tensor:
        wide = precision.widen(x)
        if self.unbiased:
            z = _unbiased(wide, self.norm.num_groups)
        else:
            z = torch.group_norm(wide, self.norm.num_groups, None, None, self.norm.eps)
        return _reweights(z, self.norm.weight, self.norm.bias)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        high = a > self.threshold
        informative = self.tap_informative(torch.where(high, 1.0, a).to(x.dtype))
        noninformative = self.tap_noninformative(torch.where(high, 0.0, a).to(x.dtype))
        half = self.fixed_axes["c"] // 2
        u, v = informative * x, noninformative * x
        return torch.cat([u[:, :half] + v[:, half:], u[:, half:] + v[:, :half]], 1)


@leaf
def _unbiased(x: Tensor, groups: int) -> Tensor:
    """Normalize each group of channels by its unbiased standard deviation, as that copy does."""
    grouped = x.unflatten(1, (groups, -1))  # b g d *
    rest = tuple(range(2, grouped.dim()))
    centered = grouped - grouped.mean(rest, keepdim=True)
    # Not std: it is NaN for one value, and its gradient is NaN for equal ones.
    length = torch.linalg.vector_norm(centered, dim=rest, keepdim=True)
    count = at_least(math.prod(grouped.shape[2:]) - 1, 1)
    deviation = length / length.new_full((), count).sqrt()
    return (centered / (deviation + 1e-10)).flatten(1, 2)


@leaf
def _reweights(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    shape = (-1, *[1] * (z.dim() - 2))
    weight, bias = precision.widen(weight), precision.widen(bias)
    share = (weight / weight.sum()).reshape(shape)
    return ((z * weight.reshape(shape) + bias.reshape(shape)) * share).sigmoid()
