"""CARAFE: upsampling with a kernel of its own for each output pixel, computed from the content."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle

from ..core import neighbors, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, positive


class CARAFE(Attention):
    r"""Upsamples x: each output pixel is an average of a window of x, weighted from the content.

    .. math::
        y_{c}(i,j) = \textstyle\sum_{t} a_{g(c),t}(i,j)\,
        x_c(\lfloor i/s \rfloor + t_y, \lfloor j/s \rfloor + t_x), \quad
        a = \operatorname{softmax}_t\big(\mathrm{shuffle}_s(E * (P x))\big)

    where t runs over a :math:`K \times K` window, P compresses the channels and shuffle moves
    :math:`s^2` channels to the pixels of an s times larger image; equations 1 to 3 of the paper.
    The image is padded with zeros.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        scale_factor: :math:`s`.
        kernel_size: :math:`K`, odd.
        groups: Number of groups of channels, each with kernels of its own.
        encoder_kernel_size: Side of the kernel of :math:`E`, odd.
        encoder_dilation: Its dilation.
        hidden_dim: Compressed channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g k y x`` for k positions of the window, row by row, y ``b c y x``,
        ``scale_factor`` times as high and wide as x.

    Raises:
        ValueError: a size is not positive, a kernel is even, or ``groups`` does not divide the
            channels.

    >>> CARAFE(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 18, 14])
    """

    card = Card(
        title="CARAFE",
        paper="CARAFE: Content-Aware ReAssembly of FEatures",
        authors="Jiaqi Wang, Kai Chen, Rui Xu, Ziwei Liu, Chen Change Loy, Dahua Lin",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1905.02188",
        code="https://github.com/open-mmlab/mmcv",
        license="Apache-2.0",
        domain="spatial",
        computes="conv",
        applies="matmul",
        kind="upsampler",
        cost=dict(time="n c k", memory="n c + n k"),
        aliases=("carafe", "content_aware_reassembly", "carafe_pack"),
    )
    axes = Axes("b c h w", "b g k y x", output="b c y x", range="softmax k")

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        kernel_size: int = 5,
        groups: int = 1,
        encoder_kernel_size: int = 3,
        encoder_dilation: int = 1,
        hidden_dim: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, scale_factor=scale_factor, hidden_dim=hidden_dim)
        positive(encoder_dilation=encoder_dilation)
        odd(kernel_size=kernel_size)
        odd(encoder_kernel_size=encoder_kernel_size)
        divides(channels=channels, groups=groups)
        self.scale_factor, self.kernel_size, self.groups = scale_factor, kernel_size, groups
        factory = {"device": device, "dtype": dtype}
        self.compress = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.encode = nn.Conv2d(
            hidden_dim,
            groups * kernel_size**2 * scale_factor**2,
            encoder_kernel_size,
            padding=encoder_dilation * (encoder_kernel_size // 2),
            dilation=encoder_dilation,
            **factory,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; all kernels are almost averages."""
        super().reset_parameters()
        nn.init.xavier_uniform_(self.compress.weight)
        nn.init.normal_(self.encode.weight, std=0.001)
        for layer in (self.compress, self.encode):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def attention(self, x: Tensor) -> Tensor:
        scores = pixel_shuffle(self.encode(self.compress(x)), self.scale_factor)
        return precision.softmax(scores.unflatten(1, (self.groups, self.kernel_size**2)), 2)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        s, g = self.scale_factor, self.groups
        # Each of the s x s output pixels above a pixel of x is an output of its own on x's grid.
        a = a.unflatten(4, (-1, s)).unflatten(3, (-1, s))  # b g k h i w j
        a = a.permute(0, 1, 4, 6, 2, 3, 5).flatten(1, 3)  # b (g i j) k h w
        z = pad(x, [self.kernel_size // 2] * 4).unflatten(1, (g, 1, -1))
        z = z.expand(-1, -1, s * s, -1, -1, -1).flatten(1, 2)  # b (g i j) d h w
        y = neighbors.weighted_sum(a, z, self.kernel_size)
        y = y.unflatten(1, (g, s * s)).transpose(2, 3)  # b g d (i j) h w
        return pixel_shuffle(y.flatten(1, 3), s)
