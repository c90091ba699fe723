"""Attention refinement: a gate per channel, normalized over the batch, after a convolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.conv_norm import conv_norm


class AttentionRefinement(Attention):
    r"""Convolves x, then scales each channel by a gate that sees the average of every channel.

    .. math::
        a = \sigma\big(\mathrm{BN}(W \bar f)\big), \quad
        f = \delta\big(\mathrm{BN}(K * x)\big), \quad y = a \odot f

    where K is a :math:`3 \times 3` kernel, :math:`\delta` is ReLU and the bar averages over
    positions; section 3.2 and figure 2 of the paper.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        conv: Convolve x; if False, f is x, as in the paper's figure.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b o 1*``, y ``b o *``.

    Raises:
        ValueError: a size is not positive, ``dims`` is unknown, or channels differ without a
            convolution.

    >>> AttentionRefinement(64, 32)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 32, 9, 7])
    """

    card = Card(
        title="Attention Refinement Module",
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
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("arm", "bisenet", "attention_refinement_module"),
        differs=(
            "The paper's figure has no convolution before the gate (conv=False); the authors' code "
            "has one, and gates its result.",
        ),
    )
    axes = Axes("b c *", "b o 1*", output="b o *", range="unit")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        *,
        conv: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels)
        one_of((1, 2, 3), dims=dims)
        if not conv and in_channels != out_channels:
            raise ValueError(
                f"out_channels ({out_channels}) must equal in_channels ({in_channels}) for "
                "conv=False"
            )
        self.axes = self.axes.over(dims)
        factory = {"device": device, "dtype": dtype}
        self.conv = (
            conv_norm(in_channels, out_channels, 3, dims=dims, activation=nn.ReLU(), **factory)
            if conv
            else nn.Identity()
        )
        self.excite = nn.Linear(out_channels, out_channels, bias=False, **factory)
        self.norm = nn.BatchNorm1d(out_channels, **factory)

    def prepare(self, x: Tensor) -> Tensor:
        return self.conv(x)

    def attention(self, f: Tensor) -> Tensor:
        scores = self.norm(self.excite(grid.mean(f)))
        return grid.broadcast_gate(scores.sigmoid(), f)

    def combine(self, a: Tensor, f: Tensor) -> Tensor:
        return f * a
