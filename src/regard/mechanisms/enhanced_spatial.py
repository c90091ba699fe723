"""Enhanced spatial attention: a gate from a reduced image that is pooled over large windows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import reduced

# The smallest side that the convolution and the pooling, both without padding, leave a pixel of.
LEAST = 15


class EnhancedSpatial(Attention):
    r"""Scales each channel of each position by a gate computed at a sixth of the resolution.

    .. math::
        a = \sigma\big(W_2 (U t + W_f z)\big), \quad
        t = K_4\, \delta\, K_3\, \delta\, K_2\, \mathrm{maxpool}(K_1 z), \quad z = W_1 x, \quad
        y = a \odot x

    where :math:`W_1` reduces the channels, :math:`K_1` is a :math:`3 \times 3` convolution of
    stride 2, the pooling takes :math:`7 \times 7` windows at a stride of 3, :math:`\delta` is ReLU
    and U interpolates bilinearly to the size of x; section 3 of the paper. An image
    with a side below 15 pixels is filled up with zeros, where the authors' code fails.

    In half precision, the roundings of its layers add up to two percent, and can change on which
    side of its step the sigmoid is where scores are in the hundreds.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; all but the last layer have :math:`\lfloor C/r \rfloor` channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, or the reduction leaves no hidden channel.

    >>> EnhancedSpatial(64)(torch.randn(2, 64, 29, 17)).shape
    torch.Size([2, 64, 29, 17])
    """

    card = Card(
        title="Enhanced Spatial Attention",
        paper="Residual Feature Aggregation Network for Image Super-Resolution",
        authors="Jie Liu, Wenjie Zhang, Yuting Tang, Jie Tang, Gangshan Wu",
        venue="CVPR",
        year=2020,
        url="https://openaccess.thecvf.com/content_CVPR_2020/html/"
        "Liu_Residual_Feature_Aggregation_Network_for_Image_Super-Resolution_CVPR_2020_paper.html",
        code="https://github.com/njulj/RFDN",
        license="MIT",
        domain="spatial",
        computes="conv+pool",
        applies="gate",
        kind="gate",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("esa", "rfanet", "rfdn", "enhanced_spatial_attention"),
        differs=(
            "The code is that of the authors' later network, RFDN; their draft for this one has a "
            "misspelled argument and does not run.",
            "RLFN and others leave out two of the three convolutions after the pooling.",
        ),
    )
    axes = Axes("b c h w", "b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        factory = {"device": device, "dtype": dtype}
        self.squeeze = nn.Conv2d(channels, hidden_dim, 1, **factory)
        self.shrink = nn.Conv2d(hidden_dim, hidden_dim, 3, stride=2, **factory)
        self.pooled = nn.Sequential(
            nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, **factory),
        )
        self.skip = nn.Conv2d(hidden_dim, hidden_dim, 1, **factory)
        self.excite = nn.Conv2d(hidden_dim, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        z = self.squeeze(x)
        t = self.pooled(max_pool2d(self.shrink(grid.fill_up(z, LEAST)), 7, 3))
        t = grid.upsample_like(t, z, align_corners=False)
        return self.excite(t + self.skip(z)).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
