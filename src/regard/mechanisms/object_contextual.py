"""Object-contextual representations: each pixel attends to the average features of each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core import grid, pairwise, precision, tokens
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, positive, probability
from ..core.contracts import PairAttention
from ..core.conv_norm import conv_norm

Prepared = tuple[Tensor, Tensor]  # x b c h w, the guide's scores b k n


class ObjectContextual(PairAttention):
    r"""Averages x over the region of each class, and lets each position attend to these averages.

    .. math::
        y = \rho'([c; x]), \quad
        c_i = \rho\big(\textstyle\sum_k w_{ik}\, \delta(f_k)\big), \quad
        w_{ik} = \operatorname{softmax}_k\big(K^{-1/2}\, \phi(x_i)^\top \psi(f_k)\big), \quad
        f_k = \textstyle\sum_i m_{ki}\, x_i

    where :math:`m_k` is the softmax over positions of the guide, the coarse scores of class k, and
    the Greek letters are convolutions with batch norm and ReLU, two each for :math:`\phi` and
    :math:`\psi`; equations 1 to 5 of the paper.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        key_channels: :math:`K`; half of those of x by default.
        out_channels: Channels of y; those of x by default.
        scale: Side of the windows whose maximum is taken before positions attend; their context is
            interpolated.
        region_scale: Multiplies the guide before its softmax.
        bias: Add biases to the convolutions.
        dropout: Dropout rate of whole channels of the output.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, guide ``b k h w`` for k classes, maps region ``b k n`` for n positions and
        pixel ``b m k`` for the m positions that are left by ``scale``, y ``b o h w``.

    Raises:
        ValueError: a size is not positive, or the dropout is not a rate.

    >>> ObjectContextual(64)(torch.randn(2, 64, 9, 7), torch.randn(2, 19, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Object-contextual representations",
        paper="Object-Contextual Representations for Semantic Segmentation",
        authors="Yuhui Yuan, Xilin Chen, Jingdong Wang",
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/1909.11065",
        code="https://github.com/openseg-group/openseg.pytorch",
        license="MIT",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="pair",
        equivariant=("pixels",),
        train_differs=True,
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=("ocr", "ocrnet", "object_contextual_representations"),
        differs=(
            "The authors' code divides the scores by the root of the keys' channels, which the "
            "paper's equation does not.",
            "Their release for HRNet has no biases (bias=False).",
        ),
    )
    axes = Axes(
        "x: b c h w, guide: b k h w",
        "region: b k n, pixel: b m k",
        output="b o h w",
        range="softmax",
    )

    def __init__(
        self,
        channels: int,
        key_channels: int | None = None,
        out_channels: int | None = None,
        *,
        scale: int = 1,
        region_scale: float = 1.0,
        bias: bool = True,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, scale=scale)
        key_channels = max(channels // 2, 1) if key_channels is None else key_channels
        out_channels = channels if out_channels is None else out_channels
        positive(key_channels=key_channels, out_channels=out_channels)
        above_zero(region_scale=region_scale)
        probability(dropout=dropout)
        self.pool_side, self.region_scale = scale, region_scale
        self.scale = key_channels**-0.5
        options: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}

        def layer(inputs: int, outputs: int) -> nn.Sequential:
            return conv_norm(inputs, outputs, activation=nn.ReLU(), **options)

        keys = key_channels
        self.query = nn.Sequential(layer(channels, keys), layer(keys, keys))
        self.key = nn.Sequential(layer(channels, keys), layer(keys, keys))
        self.value = layer(channels, keys)
        self.out = layer(keys, channels)
        self.fuse = layer(2 * channels, out_channels)
        self.drop = nn.Dropout2d(dropout)

    def prepare(self, x: Tensor, guide: Tensor) -> Prepared:
        return x, guide.flatten(2) * self.region_scale

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        x, scores = z
        region = precision.softmax(scores, 2)
        queries = self.query(grid.max_pool(x, self.pool_side) if self.pool_side > 1 else x)
        keys = self.key(self.regions(region, x))
        q, k = queries.flatten(2).transpose(1, 2), keys.flatten(2).transpose(1, 2)
        return region, pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        (region, pixel), (x, _) = a, z
        v = self.value(self.regions(region, x)).flatten(2)  # b d k
        like = grid.max_pool(x, self.pool_side) if self.pool_side > 1 else x
        context = self.out(tokens.image_like(v @ pixel.transpose(1, 2), like))
        if self.pool_side > 1:
            context = grid.upsample_like(context, x)
        return self.drop(self.fuse(torch.cat([context, x], 1)))

    def regions(self, region: Tensor, x: Tensor) -> Tensor:
        """Return the features of the classes ``b c k 1``, averages weighted by their regions."""
        return precision.matmul(x.flatten(2), region.transpose(1, 2)).to(x.dtype).unsqueeze(3)
