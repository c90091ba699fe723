"""Interlaced sparse attention: between distant positions, and then between neighbors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import per_axis, positive
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf, recording
from ..core.uncounted import uncounted

Prepared = tuple[Tensor, Tensor]  # x; x padded to whole blocks


class _Relation(nn.Module):
    """The layers of one of both attentions."""

    def __init__(
        self, channels: int, key_dim: int, value_dim: int, out_channels: int, **factory: Any
    ) -> None:
        super().__init__()

        def twice() -> nn.Sequential:
            first = conv_norm(channels, key_dim, activation=nn.ReLU(), **factory)
            return nn.Sequential(
                first, conv_norm(key_dim, key_dim, activation=nn.ReLU(), **factory)
            )

        self.query, self.key = twice(), twice()
        self.value = nn.Conv2d(channels, value_dim, 1, bias=False, **factory)
        self.out = conv_norm(value_dim, out_channels, activation=nn.ReLU(), **factory)


class Interlaced(Attention):
    r"""Applies attention within groups of distant positions, and then within blocks of neighbors.

    .. math::
        y = \operatorname{SA}_{\text{short}}(\operatorname{SA}_{\text{long}}(x)), \quad
        \operatorname{SA}(x) = \delta\big(\operatorname{BN}\big(
        W \operatorname{softmax}(d^{-1/2}\, q k^\top)\, v\big)\big)

    where :math:`\delta` is ReLU, q and k are computed by two layers with batch norm and ReLU, v by
    one without; section 3.2 and figure 3 of the paper. Short attention is within blocks of
    :math:`P_h \times P_w` neighbors, long attention within the positions that have the same place
    in all blocks. The image is padded on both sides with zeros, which are attended to as well, to
    whole blocks.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: Channels of x.
        out_channels: Channels of y; ``channels`` by default.
        key_dim: :math:`d`; half of ``channels`` by default.
        value_dim: Channels of the values; ``channels`` by default.
        block_size: :math:`P_h, P_w`, one for both or one for each.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, maps ``long`` ``b g q k`` for g places in a block, and ``short`` ``b g q k``
        for g blocks row by row, with q queries and k keys in each; y as x, or with
        ``out_channels``.

    Raises:
        ValueError: a size is not positive.

    >>> Interlaced(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Interlaced sparse self-attention",
        paper="Interlaced Sparse Self-Attention for Semantic Segmentation",
        authors=("Lang Huang, Yuhui Yuan, Jianyuan Guo, Chao Zhang, Xilin Chen, Jingdong Wang"),
        venue="arXiv",
        year=2019,
        url="https://arxiv.org/abs/1907.12273",
        code="https://github.com/openseg-group/openseg.pytorch",
        license="MIT",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("isa", "isanet", "interlaced_sparse", "interlaced_sparse_attention"),
    )
    axes = Axes("b c h w", "long: b g q k, short: b g q k", range="softmax")

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        block_size: int | Sequence[int] = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels)
        out_channels = channels if out_channels is None else out_channels
        key_dim = max(channels // 2, 1) if key_dim is None else key_dim
        value_dim = channels if value_dim is None else value_dim
        positive(out_channels=out_channels, key_dim=key_dim, value_dim=value_dim)
        super().__init__(c=channels)
        self.block_size = per_axis(2, 1, block_size=block_size)
        self.scale = key_dim**-0.5
        if out_channels != channels:
            self.axes = replace(self.axes, output="b o h w")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.long = _Relation(channels, key_dim, value_dim, out_channels, **factory)
        self.short = _Relation(out_channels, key_dim, value_dim, out_channels, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        return x, _padded(x, self.block_size)

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        _, y = z
        long = self.weights(self.long, y, True)
        # The norm of the first output counts the batch in `combine`, and must not do so twice.
        y = uncounted(self.long.out, self.seen(self.long, long, y, True))
        return long, self.weights(self.short, y, False)

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        x, y = z
        long, short = a
        y = self.long.out(self.seen(self.long, long, y, True))
        y = self.short.out(self.seen(self.short, short, y, False))
        return _cropped(y, x, self.block_size)

    def fused(self, z: Prepared) -> Tensor:
        x, y = z
        for relation, distant in ((self.long, True), (self.short, False)):
            q, k, v = (
                _groups(layer(y), self.block_size, distant)
                for layer in (relation.query, relation.key, relation.value)
            )
            read = pairwise.scaled_dot_product(
                q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale=self.scale
            )
            y = relation.out(_merged(read.reshape(v.shape), y, self.block_size, distant))
        return _cropped(y, x, self.block_size)

    def weights(self, relation: Any, y: Tensor, distant: bool) -> Tensor:
        """Return the map of one of both attentions, ``b g q k``."""
        q = _groups(relation.query(y), self.block_size, distant)
        k = _groups(relation.key(y), self.block_size, distant)
        return pairwise.attention_weights(q, k, scale=self.scale)

    def seen(self, relation: Any, a: Tensor, y: Tensor, distant: bool) -> Tensor:
        """Return the values seen through a map, as a grid."""
        v = _groups(relation.value(y), self.block_size, distant)
        return _merged(a @ v, y, self.block_size, distant)


@leaf
def _margins(x: Tensor, size: Sequence[int]) -> list[tuple[Any, Any]]:
    """Return the padding before and after each axis."""
    missing = [(n + side - 1) // side * side - n for n, side in zip(x.shape[2:], size, strict=True)]
    return [(n // 2, n - n // 2) for n in missing]


@leaf
def _padded(x: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = _margins(x, size)
    return pad(x, [*columns, *rows])


@leaf
def _cropped(y: Tensor, x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, (before, _) in enumerate(_margins(x, size), 2):
        n = x.shape[axis]
        if recording():  # a view would be contiguous at some sizes only
            y = y.index_select(axis, torch.arange(n, device=y.device) + before)
        else:
            y = y.narrow(axis, before, n)
    return tokens.laid_out_like(y, x)


@leaf
def _groups(y: Tensor, size: Sequence[int], distant: bool) -> Tensor:
    """Divide whole blocks into groups ``b g n c``: places of all blocks, or blocks of places."""
    y = y.unflatten(3, (-1, size[1])).unflatten(2, (-1, size[0]))  # b c rows h columns w
    order = (0, 3, 5, 2, 4, 1) if distant else (0, 2, 4, 3, 5, 1)
    return y.permute(order).flatten(3, 4).flatten(1, 2)


@leaf
def _merged(y: Tensor, like: Tensor, size: Sequence[int], distant: bool) -> Tensor:
    """Put groups ``b g n c`` together to a grid like one of whole blocks."""
    blocks = [n // side for n, side in zip(like.shape[2:], size, strict=True)]
    if distant:
        y = y.unflatten(2, blocks).unflatten(1, tuple(size)).permute(0, 5, 3, 1, 4, 2)
    else:
        y = y.unflatten(2, tuple(size)).unflatten(1, blocks).permute(0, 5, 1, 3, 2, 4)
    return tokens.laid_out_like(y.flatten(4, 5).flatten(2, 3), like)
