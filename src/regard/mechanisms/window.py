"""Window attention: each window of the image attends to itself, shifted in every second layer."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Literal, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core import pairwise, precision, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, per_axis, probability
from ..core.initial import small_projections

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b g heads n d each

# The width of the layers that compute the position biases of the second version.
HIDDEN = 512
# The largest factor of the cosines, and the first.
LARGEST, FIRST = log(100), log(10)
# What is added to the scores of positions that were no neighbors before the shift.
APART = -100.0


class Window(Attention):
    r"""Applies multi-head attention within windows, with biases by relative position.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top + B_h\big), \quad
        B_{h,ij} = \beta_h(p_i - p_j)

    in each window, for positions p and a table :math:`\beta`; equation 4 of the paper. With a
    shift, the image is first rolled, and positions that meet in a window without being neighbors
    get a score that is lower by 100. The second version (equations 2 to 4 of "Swin Transformer V2:
    Scaling Up Capacity and Resolution") has :math:`e^{\min(\lambda_h, \ln 100)} \cos(Q_h, K_h)`
    and :math:`\beta = 16\,\sigma(\operatorname{MLP}(\delta))`, where :math:`\delta` is the distance
    on a logarithmic scale. The image is padded with zeros, which are attended to as well, after its
    last row and column to whole windows.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        window_size: Size of a window, one for all axes or one for each.
        shift_size: Shift, likewise; below the window size. Not applied to an axis with a single
            window.
        scores: ``dot``, or ``cosine`` for the second version.
        pretrained_size: Window size whose largest distance is 1 on the logarithmic scale;
            ``window_size`` by default. With ``scores="cosine"`` only.
        bias: Give the projections of queries, keys and values biases; the keys of the second
            version have none.
        out_bias: Give the output projection a bias.
        scale: Factor of the dot products; :math:`d^{-1/2}` by default, for d channels of a head.
        dropout: Dropout rate of the attention weights.
        out_dropout: Dropout rate of the output.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b g heads q k`` for g windows row by
        row, and q queries and k keys in each, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, a shift is
            not below the window size, a dropout is not a rate, ``scores`` or ``dims`` is unknown,
            or an option does not go with the scores.

    >>> Window(64, window_size=4, shift_size=2)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Window attention",
        paper="Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
        authors=(
            "Ze Liu, Yutong Lin, Yue Cao, Han Hu, Yixuan Wei, Zheng Zhang, Stephen Lin, Baining Guo"
        ),
        venue="ICCV",
        year=2021,
        url="https://arxiv.org/abs/2103.14030",
        code="https://github.com/microsoft/Swin-Transformer",
        license="MIT",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n k c + n c^2", memory="n k + n c"),
        aliases=(
            "w_msa",
            "sw_msa",
            "swin",
            "swinv2",
            "swin_v2",
            "video_swin",
            "shifted_window",
            "shifted_window_attention",
            "window_attention",
        ),
        differs=(
            "Sizes are read from the image, which is padded to whole windows, as in the authors' "
            "code for detection and in torchvision; their code for classification has a fixed size "
            "that the window divides.",
            "An axis no longer than the window is one window without a shift, by axis, as in "
            "torchvision; the authors' code shrinks the window and drops the shift on both axes.",
            "The paper of the second version has no factor 16 nor sigmoid, a scale of at most 100 "
            "by a bound on its inverse, and no logarithm to base 2; this file has its code's form.",
        ),
    )
    axes = Axes("b c *", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        window_size: int | Sequence[int] = 7,
        shift_size: SupportsIndex | Sequence[int] = 0,
        scores: Literal["dot", "cosine"] = "dot",
        pretrained_size: int | Sequence[int] | None = None,
        bias: bool = True,
        out_bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        out_dropout: float = 0.0,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        one_of((1, 2, 3), dims=dims)
        one_of(("dot", "cosine"), scores=scores)
        probability(dropout=dropout, out_dropout=out_dropout)
        self.window_size = per_axis(dims, 1, window_size=window_size)
        self.shift_size = per_axis(dims, 0, shift_size=shift_size)
        if any(s >= side for s, side in zip(self.shift_size, self.window_size, strict=True)):
            raise ValueError(
                f"shift_size must be below window_size ({window_size}), got {shift_size!r}"
            )
        if scores == "dot" and pretrained_size is not None:
            raise ValueError(
                f"pretrained_size must be None with scores='dot', got {pretrained_size!r}"
            )
        if scores == "cosine" and scale is not None:
            raise ValueError(f"scale must be None with scores='cosine', got {scale!r}")
        self.pretrained_size = self.window_size
        if pretrained_size is not None:
            self.pretrained_size = per_axis(dims, 1, pretrained_size=pretrained_size)
        self.num_heads, self.scores = num_heads, scores
        self.scale = (channels // num_heads) ** -0.5 if scale is None else scale
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.query = nn.Linear(channels, channels, bias, **factory)
        self.key = nn.Linear(channels, channels, bias and scores == "dot", **factory)
        self.value = nn.Linear(channels, channels, bias, **factory)
        if scores == "dot":
            rows = windows.table_rows(self.window_size)
            self.positions = nn.Parameter(torch.empty(rows, num_heads, **factory))
        else:
            self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1, **factory))
            self.position_hidden = nn.Linear(dims, HIDDEN, **factory)
            self.position_out = nn.Linear(HIDDEN, num_heads, bias=False, **factory)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(channels, channels, out_bias, **factory)
        self.drop_out = nn.Dropout(out_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and biases by position with a small spread; zero all other biases."""
        small_projections(self)
        if self.scores == "dot":
            nn.init.trunc_normal_(self.positions, std=0.02)
        else:
            nn.init.constant_(self.temperature, FIRST)

    def prepare(self, x: Tensor) -> Prepared:
        t = windows.partition(x, self.window_size, shift=self.shift_size)  # b g n c
        q, k, v = (
            layer(t).unflatten(3, (self.num_heads, -1)).transpose(2, 3)
            for layer in (self.query, self.key, self.value)
        )
        if self.scores == "dot":
            return x, q * self.scale, k, v
        factor = precision.widen(self.temperature).clamp(max=LARGEST).exp()
        q, k = (normalize(precision.widen(t), dim=-1) for t in (q, k))
        return x, (q * factor).to(v.dtype), k.to(v.dtype), v

    def attention(self, z: Prepared) -> Tensor:
        x, q, k, _ = z
        return pairwise.attention_weights(q, k, mask=self.bias(x))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.join(self.drop(a) @ v, x)

    def fused(self, z: Prepared) -> Tensor:
        x, q, k, v = z
        dropout = self.drop.p if self.training else 0.0
        y = windows.scaled_dot_product(q, k, v, mask=self.bias(x), dropout=dropout)
        return self.join(y, x)

    def bias(self, x: Tensor) -> Tensor:
        """Return what is added to the scores, ``1 heads n n``, with a shift ``g heads n n``."""
        if self.scores == "dot":
            table = self.positions
        else:
            like = self.position_hidden.weight
            distances = windows.log_distances(self.window_size, self.pretrained_size, like)
            table = 16 * self.position_out(self.position_hidden(distances).relu()).sigmoid()
        bias = windows.relative_bias(table, self.window_size)[None]
        if not any(self.shift_size):
            return bias
        apart = windows.apart(x, self.window_size, self.shift_size)
        return bias + APART * apart[:, None].to(bias.dtype)

    def join(self, y: Tensor, x: Tensor) -> Tensor:
        """Merge the heads ``b g heads n d``, project, and put the windows together."""
        y = self.drop_out(self.out(y.transpose(2, 3).flatten(3)))
        return windows.merge(y, x, self.window_size, shift=self.shift_size)
