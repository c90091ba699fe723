"""Feature fusion: two features are joined by a convolution, and each channel is weighed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive, reduced
from ..core.contracts import PairAttention
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf


class FeatureFusion(PairAttention):
    r"""Fuses x and guide by a convolution, and adds the result scaled by a gate for each channel.

    .. math::
        y = f + a \odot f, \quad a = \sigma\big(W_2\,\delta(W_1 \bar f)\big), \quad
        f = \delta\big(\mathrm{BN}(W [x; g])\big)

    where :math:`\delta` is ReLU and the bar averages over positions; section 3.2 and figure 2 of
    the paper.

    Args:
        in_channels: Channels of x and guide together.
        out_channels: Channels of y; ``in_channels`` by default.
        reduction: :math:`r`; the gate has :math:`\lfloor C/r \rfloor` hidden channels.
        guide_channels: Channels of the guide; None for any number, with the others in x.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *``, guide ``b g *`` of the same size (``dims`` axes of space and time), map
        ``b o 1*``, y ``b o *``.

    Raises:
        ValueError: a size is not positive, the guide leaves no channel for x, the reduction leaves
            no hidden channel, or ``dims`` is unknown.

    >>> FeatureFusion(96, 64)(torch.randn(2, 32, 9, 7), torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Feature Fusion Module",
        paper="BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation",
        authors="Changqian Yu, Jingbo Wang, Chao Peng, Changxin Gao, Gang Yu, Nong Sang",
        venue="ECCV",
        year=2018,
        url="https://arxiv.org/abs/1808.00897",
        code="https://github.com/ycszen/TorchSeg",
        license="MIT",
        domain="channel",
        computes="conv+pool+fc",
        applies="gate",
        kind="pair",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ffm", "feature_fusion_module"),
    )
    axes = Axes("x: b c *, guide: b g *", "b o 1*", output="b o *", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        reduction: int = 1,
        guide_channels: int | None = None,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(in_channels=in_channels)
        fixed = {}
        if guide_channels is not None:
            positive(guide_channels=guide_channels)
            if guide_channels >= in_channels:
                raise ValueError(
                    f"guide_channels ({guide_channels}) must be below in_channels ({in_channels})"
                )
            fixed = {"c": in_channels - guide_channels, "g": guide_channels}
        super().__init__(**fixed)
        out_channels = in_channels if out_channels is None else out_channels
        positive(out_channels=out_channels)
        one_of((1, 2, 3), dims=dims)
        self.in_channels = in_channels
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.fuse = conv_norm(in_channels, out_channels, dims=dims, activation=nn.ReLU(), **factory)
        hidden_dim = reduced(out_channels, reduction)
        self.squeeze = nn.Linear(out_channels, hidden_dim, bias=False, **factory)
        self.excite = nn.Linear(hidden_dim, out_channels, bias=False, **factory)

    def prepare(self, x: Tensor, guide: Tensor) -> Tensor:
        _check_sum(x, guide, self.in_channels)
        return self.fuse(torch.cat([x, guide], 1))

    def attention(self, f: Tensor) -> Tensor:
        a = self.excite(self.squeeze(grid.mean(f)).relu()).sigmoid()
        return grid.broadcast_gate(a, f)

    def combine(self, a: Tensor, f: Tensor) -> Tensor:
        return torch.addcmul(f, f, a)


@leaf
def _check_sum(x: Tensor, guide: Tensor, channels: int) -> None:
    if x.shape[1] + guide.shape[1] != channels:
        raise ValueError(
            f"FeatureFusion: expected c + g = {channels} in x (b c …) and guide (b g …), got "
            f"{x.shape[1]} + {guide.shape[1]}: {tuple(x.shape)}, {tuple(guide.shape)}"
        )
