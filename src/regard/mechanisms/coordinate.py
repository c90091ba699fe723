"""Coordinate attention: a gate per row times a gate per column."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive


class Coordinate(Attention):
    r"""Scales each position of each channel by a gate for its row and a gate for its column.

    .. math::
        [f^h; f^w] = \delta\big(\mathrm{BN}(F_1 [z^h; z^w])\big), \quad
        a^h = \sigma(F_h f^h), \quad a^w = \sigma(F_w f^w), \quad
        y_{cij} = a^h_{ci}\, a^w_{cj}\, x_{cij}

    where :math:`z^h` averages x along the width, :math:`z^w` along the height, and
    :math:`\delta` is the hard swish; equations 4 to 9 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the shared layer has :math:`\max(m, \lfloor C/r \rfloor)` channels.
        min_hidden_dim: :math:`m`, the minimum number of channels of the shared layer.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``b c h 1`` and ``b c 1 w``, y as x.

    Raises:
        ValueError: a size is not positive.

    >>> Coordinate(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Coordinate Attention",
        paper="Coordinate Attention for Efficient Mobile Network Design",
        authors="Qibin Hou, Daquan Zhou, Jiashi Feng",
        venue="CVPR",
        year=2021,
        url="https://arxiv.org/abs/2103.02907",
        code="https://github.com/houqb/CoordAttention",
        license="MIT",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c", memory="n c"),
        aliases=("coord", "coordatt", "coordinate_attention", "ca"),
        differs=(
            "The paper leaves the activation open and shows the batch norm in a figure only; both "
            "follow the authors' code.",
            "timm's layer has no biases by default; missing ones are loaded as zeros.",
        ),
    )
    axes = Axes("b c h w", "h: b c h 1, w: b c 1 w", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 32,
        *,
        min_hidden_dim: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, reduction=reduction, min_hidden_dim=min_hidden_dim)
        hidden_dim = max(min_hidden_dim, channels // reduction)
        factory = {"device": device, "dtype": dtype}
        self.shared = nn.Conv1d(channels, hidden_dim, 1, **factory)
        self.norm = nn.BatchNorm1d(hidden_dim, **factory)
        self.height = nn.Conv1d(hidden_dim, channels, 1, **factory)
        self.width = nn.Conv1d(hidden_dim, channels, 1, **factory)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, w = x.shape[2:]
        z = torch.cat([x.mean(3), x.mean(2)], 2)  # b c h+w: rows and columns share the norm
        f_h, f_w = hardswish(self.norm(self.shared(z))).split([h, w], 2)
        return self.height(f_h).sigmoid().unsqueeze(3), self.width(f_w).sigmoid().unsqueeze(2)

    def combine(self, a: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
        a_h, a_w = a
        return x * a_w * a_h
