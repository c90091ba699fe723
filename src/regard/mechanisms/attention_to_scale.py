"""Attention to scale: a softmax over scales at each position averages their scores."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Mechanism, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive

Prepared = tuple[list[Tensor], Tensor]  # scores b k h w of each scale, features b (s c) h w


class AttentionToScale(Mechanism):
    r"""Averages the class scores of several scales with a softmax over scales at each position.

    .. math::
        y_i = \textstyle\sum_s a^s_i\, f^s_i, \quad
        a_i = \operatorname{softmax}_s \big(W_2\, \delta(W_1 * [z^1; \dots; z^S])\big)_i

    where the scores :math:`f^s` and the features :math:`z^s` of the S scales are first upsampled to
    the size of the first, the finest; :math:`W_1` is a :math:`3 \times 3` convolution and
    :math:`\delta` = ReLU. All channels of the scores share the weights. Equations 1 and 2 and
    section 3.2 of the paper.

    To average the features themselves, pass them twice: ``fuse(*z, *z)``.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of the features of one scale.
        num_scales: :math:`S`.
        hidden_dim: Channels between the two convolutions.
        align_corners: Which points interpolation aligns: the centers of the corner pixels or, if
            False, the corners of the image.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        S scores and then S features, the finest first: ``b k h w``, ``b k h1 w1``, …, ``b c h w``,
        ``b c h1 w1``, …; map ``b s h w``, y ``b k h w``.

    Raises:
        ValueError: a size is not positive, or there is a single scale.

    >>> fuse = AttentionToScale(64)
    >>> scores = torch.randn(2, 5, 9, 7), torch.randn(2, 5, 5, 4)
    >>> features = torch.randn(2, 64, 9, 7), torch.randn(2, 64, 5, 4)
    >>> fuse(*scores, *features).shape
    torch.Size([2, 5, 9, 7])
    """

    card = Card(
        title="Attention to Scale",
        paper="Attention to Scale: Scale-aware Semantic Image Segmentation",
        authors="Liang-Chieh Chen, Yi Yang, Jiang Wang, Wei Xu, Alan L. Yuille",
        venue="CVPR",
        year=2016,
        url="https://arxiv.org/abs/1511.03339",
        domain="spatial",
        computes="conv",
        applies="select",
        kind="head",
        cost=dict(time="n c + n k", memory="n c + n k"),
        aliases=("attention_to_scale", "scale_attention", "scale_aware_attention"),
        differs=(
            "The authors released no code of the attention. Open in the paper and chosen here: "
            "biases, a ReLU between the convolutions, and upsampling the features before their "
            "concatenation.",
        ),
        plug=False,
    )
    axes = Axes(
        "scores: b k h w, scores1: b k h1 w1, features: b c h w, features1: b c h1 w1",
        "b s h w",
        output="b k h w",
        range="softmax s",
    )

    def __init__(
        self,
        channels: int,
        num_scales: int = 2,
        *,
        hidden_dim: int = 512,
        align_corners: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_scales=num_scales, hidden_dim=hidden_dim)
        if num_scales < 2:
            raise ValueError(f"num_scales must be 2 or more, got {num_scales}")
        self.num_scales = num_scales
        self.align_corners = align_corners
        coarse = [str(i or "") for i in range(num_scales)]
        inputs = [f"scores{i}: b k h{i} w{i}" for i in coarse]
        inputs += [f"features{i}: b c h{i} w{i}" for i in coarse]
        self.axes = replace(self.axes, input=", ".join(inputs))
        factory = {"device": device, "dtype": dtype}
        self.look = nn.Conv2d(num_scales * channels, hidden_dim, 3, padding=1, **factory)
        self.score = nn.Conv2d(hidden_dim, num_scales, 1, **factory)
        self.tap = Tap()

    def forward(self, *x: Tensor) -> Tensor:
        """Average the scores of all scales; scores first, then features, the finest first."""
        self.check_count(x)
        # By index: torch.fx cannot iterate over a symbol.
        x = tuple(x[i] for i in range(2 * self.num_scales))
        self.check(*x)
        z = self.prepare(*x)
        return self.combine(self.tap(self.attention(z)), z)

    def prepare(self, *x: Tensor) -> Prepared:
        """Upsample the scores and features of all scales to the finest."""
        like = x[0]
        fine = [
            grid.upsample_like(x[i], like, align_corners=self.align_corners)
            for i in range(2 * self.num_scales)
        ]
        return fine[: self.num_scales], torch.cat(fine[self.num_scales :], 1)

    def attention(self, z: Prepared) -> Tensor:
        """g: the weight of each scale at each position."""
        _, features = z
        return precision.softmax(self.score(self.look(features).relu()), 1)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        """f: the weighted sum of the scores."""
        scores, _ = z
        y = scores[0] * a[:, :1]
        for i in range(1, self.num_scales):
            y = y + scores[i] * a[:, i : i + 1]
        return y

    def check_count(self, x: tuple[Tensor, ...]) -> None:
        """Raise `ValueError` for too few or too many inputs."""
        if not isinstance(x, torch.fx.Proxy) and len(x) != 2 * self.num_scales:
            raise ValueError(
                f"{type(self).__name__}: expected scores and features of {self.num_scales} scales "
                f"({self.axes.input}), got {len(x)} inputs"
            )
