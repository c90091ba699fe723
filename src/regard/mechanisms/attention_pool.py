"""Attention pooling: one query, the average of the image, attends to all positions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor]  # q, k, v: b heads n d


class AttentionPool(Attention):
    r"""Pools an image by attention: its average is the query, and reads all positions and itself.

    .. math::
        y = W_o \operatorname{softmax}\big(d^{-1/2}\, q K^\top\big)\, V + b, \quad
        q = W_q t_0, \quad K = W_k t, \quad V = W_v t, \quad
        t = [\bar x; x_1; \dots; x_n] + E

    where the bar averages over positions and E is a learned position embedding; section 2.4 of the
    paper, as the code defines it.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: Number of heads.
        out_channels: Entries of y; as many as channels by default.
        image_size: Side of the images for which E is learned.
        positions: How E is interpolated for images of other sizes: as a ``grid``, by cubic splines,
            or as a ``sequence`` of rows, linearly.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b heads 1 m`` for the average and the n positions, y ``b o``.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or
            ``positions`` is unknown.

    >>> AttentionPool(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64])
    """

    card = Card(
        title="Attention pooling",
        paper="Learning Transferable Visual Models From Natural Language Supervision",
        authors=(
            "Alec Radford, Jong Wook Kim, Chris Hallacy, Aditya Ramesh, Gabriel Goh, "
            "Sandhini Agarwal, Girish Sastry, Amanda Askell, Pamela Mishkin, Jack Clark, "
            "Gretchen Krueger, Ilya Sutskever"
        ),
        venue="ICML",
        year=2021,
        url="https://arxiv.org/abs/2103.00020",
        code="https://github.com/openai/CLIP",
        license="MIT",
        domain="spatial",
        computes="pool+matmul",
        applies="matmul",
        kind="pool",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("attention_pool_2d", "attentionpool2d", "clip_pool", "attention_pooling"),
        differs=(
            "The authors' code takes images of as many positions as E has rows, whatever their "
            "sides are (positions='sequence'); here E is interpolated.",
        ),
    )
    axes = Axes("b c h w", "b heads 1 m", output="b o", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        out_channels: int | None = None,
        image_size: int = 7,
        positions: Literal["grid", "sequence"] = "grid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels, heads=num_heads)
        divides(channels=channels, num_heads=num_heads)
        out_channels = channels if out_channels is None else out_channels
        positive(out_channels=out_channels, image_size=image_size)
        one_of(("grid", "sequence"), positions=positions)
        self.num_heads, self.positions = num_heads, positions
        self.scale = (channels // num_heads) ** -0.5
        factory = {"device": device, "dtype": dtype}
        self.embedding = nn.Parameter(torch.empty(image_size**2 + 1, channels, **factory))
        self.query = nn.Linear(channels, channels, **factory)
        self.key = nn.Linear(channels, channels, **factory)
        self.value = nn.Linear(channels, channels, **factory)
        self.out = nn.Linear(channels, out_channels, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters: all weights have a spread of one by the root of the channels."""
        super().reset_parameters()
        std = self.embedding.shape[1] ** -0.5
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.normal_(layer.weight, std=std)
        nn.init.normal_(self.embedding, std=std)

    def prepare(self, x: Tensor) -> Prepared:
        t = x.flatten(2).transpose(1, 2)
        t = torch.cat([t.mean(1, keepdim=True), t], 1)  # b m c
        t = t + _embedded(self.embedding, x, self.positions)
        q, k, v = self.query(t[:, :1]), self.key(t), self.value(t)
        heads = self.num_heads
        return tuple(pairwise.split_heads(p, heads) for p in (q, k, v))  # type: ignore[return-value]

    def attention(self, z: Prepared) -> Tensor:
        q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        _, _, v = z
        return self.out((a @ v).flatten(1))

    def fused(self, z: Prepared) -> Tensor:
        return self.out(pairwise.scaled_dot_product(*z, scale=self.scale).flatten(1))


@leaf
def _embedded(embedding: Tensor, x: Tensor, positions: str) -> Tensor:
    """Return the rows of E for the average and each position of an image: ``m c``."""
    h, w = x.shape[2:]
    rows = embedding[1:].T[None]  # 1 c n
    if positions == "sequence":
        rows = interpolate(rows, [h * w], mode="linear", align_corners=False)
    else:
        side = int(rows.shape[2] ** 0.5 + 0.5)
        rows = interpolate(rows.unflatten(2, (side, side)), [h, w], mode="bicubic").flatten(2)
    return torch.cat([embedding[:1], rows[0].T])
