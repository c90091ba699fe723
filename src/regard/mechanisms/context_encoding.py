"""Context encoding: channel gates from the residuals of an image to learned codewords."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor]  # x, and e: b c


class ContextEncoding(Attention):
    r"""Scales each channel by a gate computed from the residuals to K codewords.

    .. math::
        e = \tfrac1K \textstyle\sum_k \delta(\mathrm{BN}(E_k)), \quad
        a = \sigma(W e + b), \quad y = \delta(x + a \odot x)

    where :math:`E = \mathrm{Encode}(\delta(\mathrm{BN}(W_0 x)))` and :math:`\delta` = ReLU; figure
    2 of the paper. `CodewordEncoding` is Encode alone. With ``num_classes``, another layer predicts
    from e which classes are in the image; `SemanticEncodingLoss` trains it.

    Args:
        channels: :math:`C`.
        num_codewords: :math:`K`.
        num_classes: Return the scores of this number of classes, too.
        pooling: Take the ``mean`` over the codewords, as the authors' code does, or the ``sum``, as
            the paper does.
        residual: Add x and end with ReLU, as the authors' code does; if False,
            :math:`y = a \odot x`, as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*``, y as x; with
        ``num_classes`` y and the scores ``b k``.

    Raises:
        ValueError: a size is not positive, or the pooling is unknown.

    >>> ContextEncoding(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Context Encoding",
        paper="Context Encoding for Semantic Segmentation",
        authors=(
            "Hang Zhang, Kristin Dana, Jianping Shi, Zhongyue Zhang, Xiaogang Wang, Ambrish Tyagi, "
            "Amit Agrawal"
        ),
        venue="CVPR",
        year=2018,
        url="https://arxiv.org/abs/1803.08904",
        code="https://github.com/zhanghang1989/PyTorch-Encoding",
        license="MIT",
        domain="channel",
        computes="conv+matmul+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2 + n k c", memory="n c + n k"),
        aliases=("encnet", "enc_module"),
        differs=(
            "The paper sums over the codewords and returns a x; the authors' code, and the default "
            "here, averages them and returns relu(x + a x) (pooling='sum' and residual=False are "
            "the paper's).",
            "The distances are multiplied by a scale that starts between -1 and 0, as in the "
            "authors' code; the paper writes a minus and a positive scale.",
        ),
    )
    axes = Axes("b c *", "b c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        num_codewords: int = 32,
        *,
        num_classes: int | None = None,
        pooling: Literal["mean", "sum"] = "mean",
        residual: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_codewords=num_codewords)
        one_of(("mean", "sum"), pooling=pooling)
        self.pooling = pooling
        self.residual = residual
        self.num_classes = num_classes
        factory = {"device": device, "dtype": dtype}
        self.project = nn.Conv1d(channels, channels, 1, bias=False, **factory)
        self.norm = nn.BatchNorm1d(channels, **factory)
        self.encoding = CodewordEncoding(channels, num_codewords, **factory)
        self.norm_codewords = nn.BatchNorm1d(num_codewords, **factory)
        self.gate = nn.Linear(channels, channels, **factory)
        if num_classes is not None:
            positive(num_classes=num_classes)
            self.axes = replace(self.axes, output="b c *, b k")
            self.classify = nn.Linear(channels, num_classes, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        z = self.norm(self.project(x.flatten(2))).relu()
        e = self.norm_codewords(self.encoding(z)).relu()  # b k c
        return x, e.mean(1) if self.pooling == "mean" else e.sum(1)

    def attention(self, z: Prepared) -> Tensor:
        x, e = z
        return grid.broadcast_gate(self.gate(e).sigmoid(), x)

    def combine(self, a: Tensor, z: Prepared) -> Tensor | tuple[Tensor, Tensor]:
        x, e = z
        y = grid.relu((1 + a) * x) if self.residual else a * x
        return y if self.num_classes is None else (y, self.classify(e))


class CodewordEncoding(Attention):
    r"""Sums the residuals of all positions to each codeword, softly assigned.

    .. math::
        E_k = \textstyle\sum_i a_{ik} (x_i - d_k), \quad
        a_i = \operatorname{softmax}_k\big(s_k \lVert x_i - d_k \rVert^2\big)

    with K codewords :math:`d_k` and scales :math:`s_k` that start negative; equation 1 of the
    paper, which writes a minus instead. It is Encode in `ContextEncoding`.

    Args:
        channels: :math:`C`.
        num_codewords: :math:`K`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b n k`` for the n positions, y
        ``b k c``.

    Raises:
        ValueError: a size is not positive.

    >>> CodewordEncoding(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 32, 64])
    """

    card = replace(
        ContextEncoding.card,
        computes="matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        map_invariant=(),
        train_differs=False,
        cost=dict(time="n k c", memory="n k"),
    )
    axes = Axes("b c *", "b n k", output="b k c", range="softmax")

    def __init__(
        self,
        channels: int,
        num_codewords: int = 32,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_codewords=num_codewords)
        self.codewords = nn.Parameter(
            torch.empty(num_codewords, channels, device=device, dtype=dtype)
        )
        self.scale = nn.Parameter(torch.empty(num_codewords, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw codewords uniformly within ±1/√(K C), and scales between -1 and 0."""
        bound = self.codewords.numel() ** -0.5
        nn.init.uniform_(self.codewords, -bound, bound)
        nn.init.uniform_(self.scale, -1, 0)

    def attention(self, x: Tensor) -> Tensor:
        return _soft_assignment(x.flatten(2), self.codewords, self.scale)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        # The difference of two sums over all positions.
        sums = precision.matmul(a.transpose(1, 2), x.flatten(2).transpose(1, 2))  # b k c
        return (sums - precision.widen(a).sum(1).unsqueeze(2) * self.codewords).to(x.dtype)


class SemanticEncodingLoss(nn.Module):
    """Binary cross-entropy of which classes are in an image: the paper's SE-loss.

    Args:
        num_classes: Number of classes.

    Shape:
        scores ``b k``, integer labels ``b *``, of which those outside of 0 to k - 1 are ignored;
        the loss, a mean over images and classes.

    >>> SemanticEncodingLoss(3)(torch.zeros(1, 3), torch.tensor([[[0, 2], [-1, 2]]]))
    tensor(0.6931)
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        positive(num_classes=num_classes)
        self.num_classes = num_classes

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of the scores, given a label map."""
        labels = labels.flatten(1)
        outside = (labels < 0) | (labels >= self.num_classes)
        # Ignored labels are collected in an extra class.
        classes = labels.masked_fill(outside, self.num_classes)
        present = scores.new_zeros(scores.shape[0], self.num_classes + 1).scatter(1, classes, 1.0)
        return binary_cross_entropy_with_logits(scores, present[:, :-1])


@leaf
def _soft_assignment(x: Tensor, codewords: Tensor, scale: Tensor) -> Tensor:
    """Return the softmax over codewords of the scaled squared distances, ``b n k``."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    x_squared = x.to(dtype).square().sum(1, keepdim=True)  # b 1 n
    d_squared = codewords.to(dtype).square().sum(1, keepdim=True)  # k 1
    distances = x_squared - 2 * precision.matmul(codewords, x) + d_squared  # b k n
    return precision.softmax(scale.unsqueeze(1) * distances, 1, x.dtype).transpose(-2, -1)
