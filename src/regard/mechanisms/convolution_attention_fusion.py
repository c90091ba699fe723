"""Convolution and attention fusion: attention of channels to channels, plus a local branch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import channel_map, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of

# Features of the local branch for each channel of a head.
LOCAL = 9


class ConvolutionAttentionFusion(Attention):
    r"""Adds attention among the channels of a head, and convolutions of the same q, k and v.

    .. math::
        y = P (a v) + E * f, \quad
        a = \operatorname{softmax}_j\Big(t\, \frac{q_i \cdot k_j}{\|q_i\|\,\|k_j\|}\Big), \quad
        [q; k; v] = D * W x

    where the rows of q, k and v are the channels of a head, D is a :math:`3 \times 3` depthwise
    kernel, t a learned number for each head, and E a grouped :math:`3 \times 3` kernel; f has nine
    linear functions of the heads' q, k and v for each of the :math:`C/h` channels of a head;
    section 2 of the paper.

    Args:
        channels: :math:`C`.
        num_heads: :math:`h`.
        bias: Give W, D and P a bias.
        reading: How the local branch reads q, k and v. The authors' code reads their numbers in the
            order of ``memory`` as positions, heads and channels, though they are laid out as
            channels and positions: it mixes positions that are far apart. With ``positions`` it
            reads those of each position.
        residual: Add x to the output of the attention, as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads d e``, softmax over e, for the d = e channels of a head; y as
        x.

    Raises:
        ValueError: a size is not positive, the heads do not divide the channels, or the reading is
            unknown.

    >>> ConvolutionAttentionFusion(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Convolution and Attention Fusion Module",
        paper="Hybrid Convolutional and Attention Network for Hyperspectral Image Denoising",
        authors="Shuai Hu, Feng Gao, Xiaowei Zhou, Junyu Dong, Qian Du",
        venue="IEEE Geoscience and Remote Sensing Letters",
        year=2024,
        url="https://arxiv.org/abs/2403.10067",
        code="https://github.com/summitgao/HCANet",
        license="none stated",
        domain="channel",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("cafm", "hcanet", "cafmattention", "cafm_attention"),
        differs=(
            "The paper's local branch reads each position, and shuffles channels "
            "(reading='positions', without the shuffle); the authors' code reads numbers in the "
            "order of memory.",
            "The paper adds x to the output of the attention (residual=True); the code does not.",
            "The authors' kernels have a depth of three for images of depth one: only the middle "
            "slice is kept.",
        ),
    )
    axes = Axes("b c h w", "b heads d e", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        bias: bool = False,
        reading: Literal["memory", "positions"] = "memory",
        residual: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        divides(channels=channels, num_heads=num_heads)
        one_of(("memory", "positions"), reading=reading)
        self.num_heads, self.width = num_heads, channels // num_heads
        self.reading, self.residual = reading, residual
        factory = {"device": device, "dtype": dtype}
        self.widen = nn.Conv2d(channels, 3 * channels, 1, bias=bias, **factory)
        self.depthwise = nn.Conv2d(
            3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias, **factory
        )
        self.project = nn.Conv2d(channels, channels, 1, bias=bias, **factory)
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1, **factory))
        self.combine_heads = nn.Linear(3 * num_heads, LOCAL, **factory)
        self.local = nn.Conv2d(
            LOCAL * self.width, channels, 3, padding=1, groups=self.width, **factory
        )

    def reset_parameters(self) -> None:
        """Draw new layers; the temperatures start at one."""
        super().reset_parameters()
        nn.init.ones_(self.temperature)

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.depthwise(self.widen(x)), x

    def attention(self, z: tuple[Tensor, Tensor]) -> Tensor:
        q, k, _ = self._heads(z[0])
        return channel_map.cosine_weights(q, k, self.temperature)

    def combine(self, a: Tensor, z: tuple[Tensor, Tensor]) -> Tensor:
        features, x = z
        _, _, v = self._heads(features)
        y = self.project(tokens.image_like((a @ v).flatten(1, 2), x))
        y = y + self.local(self._local(features))
        return x + y if self.residual else y

    def _heads(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, ``b heads d n``."""
        q, k, v = features.flatten(2).unflatten(1, (3, self.num_heads, -1)).unbind(1)
        return q, k, v

    def _local(self, features: Tensor) -> Tensor:
        """Return nine features of each channel of a head, ``b (d 9) h w``."""
        numbers = features.flatten(2)  # b (3 heads d) n
        if self.reading == "memory":
            b, _, n = numbers.shape
            rows = numbers.reshape(b, n, 3 * self.num_heads, self.width)
        else:
            rows = numbers.unflatten(1, (3 * self.num_heads, -1)).permute(0, 3, 1, 2)
        f = self.combine_heads(rows.transpose(2, 3))  # b n d 9
        return tokens.image_like(f.permute(0, 2, 3, 1).flatten(1, 2), features)
