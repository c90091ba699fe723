"""Transposed attention: the channels of a head attend to each other, after convolutions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..core import channel_map, precision, tokens
from ..core.attention import Attention, Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of
from ..core.conv_norm import CONV
from ..core.tracing import leaf

EPS = 1e-5  # of the norms of the block

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
        return self.out(tokens.image_like((a @ v).flatten(1, 2), x))


class _ChannelNorm(nn.Module):
    """Layer norm over the channels of each position; without a bias, the mean stays too."""

    def __init__(self, channels: int, bias: bool, **factory: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, **factory))
        self.bias = nn.Parameter(torch.empty(channels, **factory)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as a norm without further scale."""
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Norm ``b c *``."""
        wide = precision.widen(x)
        centered = wide - wide.mean(1, keepdim=True)
        deviation = (centered.square().mean(1, keepdim=True) + EPS).sqrt()
        if self.bias is None:
            return (wide / deviation).to(x.dtype) * _over_grid(self.weight, x)
        y = (centered / deviation).to(x.dtype)
        return y * _over_grid(self.weight, x) + _over_grid(self.bias, x)


class TransposedBlock(Mechanism):
    r"""Adds transposed attention, and then a gated convolutional network, to the input.

    .. math::
        u = x + A(\operatorname{LN}(x)), \quad
        y = u + W_o \big(\operatorname{GELU}(v_1) \odot v_2\big), \quad
        [v_1, v_2] = \operatorname{DWConv}_3(W \operatorname{LN}(u))

    where A is `Transposed`, with its tap ``attend.tap``; equations 1 to 3 of the paper.

    In half precision, rounding can change which entry the softmax selects where the factor of the
    cosines is large.

    Args:
        channels: :math:`C`.
        num_heads: Heads of `Transposed`.
        expansion: Channels of :math:`v_1`, for each of x.
        bias: Give all convolutions biases.
        norm_bias: Subtract means in the norms and add biases; otherwise they only scale.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), y as x; the map is that of ``attend``.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels, the
            expansion leaves no channel, or ``dims`` is unknown.

    >>> TransposedBlock(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Transposed.card
    axes = Axes("b c *", "b heads d d")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        expansion: float = 2.66,
        bias: bool = False,
        norm_bias: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.attend = Transposed(channels, num_heads, bias=bias, dims=dims, **factory)
        self.axes = self.axes.over(dims)
        hidden_dim = int(channels * expansion)
        if hidden_dim < 1:
            raise ValueError(f"expansion leaves none of {channels} channels, got {expansion}")
        self.norm = _ChannelNorm(channels, norm_bias, **factory)
        self.network_norm = _ChannelNorm(channels, norm_bias, **factory)
        width = 2 * hidden_dim
        self.expand = CONV[dims](channels, width, 1, bias=bias, **factory)
        self.local = CONV[dims](width, width, 3, padding=1, groups=width, bias=bias, **factory)
        self.reduce = CONV[dims](hidden_dim, channels, 1, bias=bias, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        self.check(x)
        x = x + self.attend(self.norm(x))
        gate, y = self.local(self.expand(self.network_norm(x))).chunk(2, 1)
        return x + self.reduce(gelu(gate) * y)


@leaf
def _over_grid(weight: Tensor, x: Tensor) -> Tensor:
    """Return a number for each channel as ``c 1*``."""
    return weight.reshape(-1, *[1] * (x.dim() - 2))
