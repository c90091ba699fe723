"""Gated channel transformation: one gate per channel, from its norm relative to the others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, positive
from ..core.tracing import leaf


class GatedChannelTransform(Attention):
    r"""Scales each channel by a gate, computed from its norm relative to the norms of all channels.

    .. math::
        s_c = \alpha_c \sqrt{\textstyle\sum_{ij} x_{cij}^2 + \epsilon}, \quad
        \hat s_c = \frac{s_c}{\sqrt{\frac1C \sum_k s_k^2 + \epsilon}}, \quad
        a_c = 1 + \tanh(\gamma_c \hat s_c + \beta_c), \quad y = a \odot x

    or, with the other norm, :math:`s_c = \alpha_c \sum_{ij} |x_{cij}|` and
    :math:`\hat s_c = s_c / (\frac1C \sum_k |s_k| + \epsilon)`; section 3 of the paper.

    Args:
        channels: :math:`C`.
        p: Order of the norm over positions: 2 or 1.
        after_relu: Skip the absolute value of the 1-norm, because x has no negative values.
        eps: :math:`\epsilon`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b c 1*`` (from 0 to 2), y as x.

    Raises:
        ValueError: a size is not positive, ``eps`` is not above zero, or ``p`` is neither 1 nor 2.

    >>> GatedChannelTransform(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Gated Channel Transformation",
        paper="Gated Channel Transformation for Visual Recognition",
        authors="Zongxin Yang, Linchao Zhu, Yu Wu, Yi Yang",
        venue="CVPR",
        year=2020,
        url="https://arxiv.org/abs/1909.11519",
        code="https://github.com/z-x-yang/GCT",
        license="MIT",
        domain="channel",
        computes="pool",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        identity_at_init=True,
        cost=dict(time="n c", memory="n c"),
        aliases=("gct", "gated_channel_transformation"),
        differs=(
            "The authors' code, and the default here, adds epsilon to the mean over the channels; "
            "the paper adds it to the sum, which corresponds to epsilon / C here.",
        ),
    )
    axes = Axes("b c *", "b c 1*")

    def __init__(
        self,
        channels: int,
        *,
        p: Literal[2, 1] = 2,
        after_relu: bool = False,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of((2, 1), p=p)
        above_zero(eps=eps)
        self.p = p
        self.after_relu = after_relu
        self.eps = eps
        self.alpha = nn.Parameter(torch.ones(channels, device=device, dtype=dtype))
        self.gamma = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Set all gates to one, so that a new module returns its input."""
        super().reset_parameters()
        nn.init.ones_(self.alpha)
        nn.init.zeros_(self.gamma)
        nn.init.zeros_(self.beta)

    def attention(self, x: Tensor) -> Tensor:
        if self.p == 2:
            s = self.alpha * (_norm(x, 2).square() + self.eps).sqrt()  # b c
            scale = (s.square().mean(1, keepdim=True) + self.eps).sqrt()
        else:
            s = self.alpha * (_sum(x) if self.after_relu else _norm(x, 1))
            scale = s.abs().mean(1, keepdim=True) + self.eps
        a = 1 + (self.gamma * (s / scale) + self.beta).tanh()
        return grid.broadcast_gate(a.to(x.dtype), x)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


# At least single precision: in half precision the sum over a large map would overflow.
@leaf
def _norm(x: Tensor, p: int) -> Tensor:
    """Return the p-norm of each channel, ``b c``."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x.flatten(2), p, 2, dtype=dtype)


@leaf
def _sum(x: Tensor) -> Tensor:
    """Return the sum of each channel, ``b c``."""
    return x.flatten(2).sum(2, dtype=torch.promote_types(x.dtype, torch.float32))
