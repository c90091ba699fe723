"""Transposed attention: the channels of a head attend to each other, after convolutions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import channel_map, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of
from ..core.conv_norm import CONV
from ..core.tracing import leaf

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x, and q, k, v: b heads d n each


class Transposed(Attention):
    r"""Weighs the channels of each head by the cosines between its keys and queries.

    .. math::
        y = W_o [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(\tau_h\, \hat Q_h \hat K_h^\top\big), \quad
        [Q, K, V] = \operatorname{DWConv}_3(W x)

    where :math:`\hat Q_h` and :math:`\hat K_h` have a row for each channel, of length 1 over all
    positions, and :math:`\tau_h` is learned; equation 1 of the paper.

    In half precision, rounding can change which entry the softmax selects where the factor of the
    cosines is large.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        bias: Give all layers biases.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b heads d d``, from the channels of the
        queries to those of the keys, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, or ``dims``
            is unknown.

    >>> Transposed(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Multi-Dconv head transposed attention",
        paper="Restormer: Efficient Transformer for High-Resolution Image Restoration",
        authors=(
            "Syed Waqas Zamir, Aditya Arora, Salman Khan, Munawar Hayat, Fahad Shahbaz Khan, "
            "Ming-Hsuan Yang"
        ),
        venue="CVPR",
        year=2022,
        url="https://arxiv.org/abs/2111.09881",
        code="https://github.com/swz30/Restormer",
        license="Academic Public License (non-commercial)",
        domain="channel",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        cost=dict(time="n c^2", memory="n c"),
        aliases=("transposed_attention", "mdta", "restormer", "multi_dconv_head_transposed"),
        differs=(
            "The paper divides the cosines by a temperature; the authors' code, and this file, "
            "multiplies them by one.",
        ),
    )
    axes = Axes("b c *", "b heads d d", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        bias: bool = False,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads, d=channels // num_heads)
        one_of((1, 2, 3), dims=dims)
        self.num_heads = num_heads
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        width = 3 * channels
        self.qkv = CONV[dims](channels, width, 1, **factory)
        self.mix = CONV[dims](width, width, 3, padding=1, groups=width, **factory)
        self.temperature = nn.Parameter(torch.empty(num_heads, 1, 1, device=device, dtype=dtype))
        self.out = CONV[dims](channels, channels, 1, **factory)
        nn.init.ones_(self.temperature)

    def reset_parameters(self) -> None:
        """Draw the convolutions as torch does; factors of one."""
        super().reset_parameters()
        nn.init.ones_(self.temperature)

    def prepare(self, x: Tensor) -> Prepared:
        heads = self.mix(self.qkv(x)).flatten(2).unflatten(1, (3, self.num_heads, -1))
        q, k, v = heads.unbind(1)  # b heads d n
        return x, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        return channel_map.cosine_weights(q, k, self.temperature)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.out(_as_grid(a @ v, x))


@leaf
def _as_grid(y: Tensor, x: Tensor) -> Tensor:
    """Merge the heads ``b heads d n`` to a grid like x."""
    return tokens.laid_out_like(y.flatten(1, 2).unflatten(2, x.shape[2:]), x)
