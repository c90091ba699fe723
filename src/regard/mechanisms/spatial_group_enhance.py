"""Spatial group-wise enhance: a gate per position and group of channels, from their similarity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core import precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides
from ..core.tracing import at_least


class SpatialGroupEnhance(Attention):
    r"""Scales each position of a group of channels by its similarity to the group's mean vector.

    .. math::
        a_{gi} = \sigma\Big(\gamma_g \frac{c_{gi} - \bar c_g}{s_g + \epsilon} + \beta_g\Big), \quad
        c_{gi} = \langle \bar x_g, x_{gi} \rangle, \quad y_{gi} = a_{gi}\, x_{gi}

    where the bars average over the positions i and :math:`s_g` is the standard deviation of
    :math:`c_g` over them; equations 1 to 5 of the paper.

    Args:
        channels: :math:`C`, only checked: no parameter depends on it; None accepts any multiple of
            ``groups``.
        groups: Groups of adjacent channels, each with its own :math:`\gamma` and :math:`\beta`.
        eps: :math:`\epsilon`.
        unbiased: Divide the variance by the number of positions minus one, as the authors' code
            does.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b g *`` for the g groups, y as x.

    Raises:
        ValueError: a size is not positive, the groups do not divide the channels, or ``eps`` is not
            above zero.

    >>> SpatialGroupEnhance(64, groups=8)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Spatial Group-wise Enhance",
        paper="Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional "
        "Networks",
        authors="Xiang Li, Xiaolin Hu, Jian Yang",
        venue="arXiv",
        year=2019,
        url="https://arxiv.org/abs/1905.09646",
        code="https://github.com/implus/PytorchInsight",
        license="none stated",
        domain="channel+spatial",
        computes="pool+matmul",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("sge", "sgenet"),
        differs=(
            "The paper's variance divides by the number of positions (unbiased=False); the "
            "authors' code, and the default here, by one less.",
            "For a single position the gate is that of a position at the mean; the authors' code "
            "returns NaN.",
        ),
    )
    axes = Axes("b c *", "b g *", range="unit")

    def __init__(
        self,
        channels: int | None = None,
        groups: int = 64,
        *,
        eps: float = 1e-5,
        unbiased: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**({} if channels is None else {"c": channels}))
        divides(channels=groups if channels is None else channels, groups=groups)
        above_zero(eps=eps)
        self.groups = groups
        self.divisors = {"c": groups} if channels is None else {}
        self.eps = eps
        self.unbiased = unbiased
        self.weight = nn.Parameter(torch.zeros(groups, 1, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.ones(groups, 1, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Reset the weights to zero and the biases to one: all gates are equal."""
        nn.init.zeros_(self.weight)
        nn.init.ones_(self.bias)

    def attention(self, x: Tensor) -> Tensor:
        flat = precision.widen(x).flatten(2)
        n = flat.shape[2]
        grouped = flat.unflatten(1, (self.groups, -1))  # b g d n
        c = (grouped.mean(3, keepdim=True) * grouped).sum(2)  # b g n
        c = c - c.mean(2, keepdim=True)
        # Not std: it is NaN for one position, and its gradient is NaN for equal ones.
        root = c.new_full((), at_least(n - 1, 1) if self.unbiased else n).sqrt()
        s = torch.linalg.vector_norm(c, dim=2, keepdim=True) / root
        a = (c * (self.weight / (s + self.eps)) + self.bias).sigmoid()
        return a.to(x.dtype).unflatten(2, x.shape[2:])

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        grouped = x.unflatten(1, (self.groups, -1))
        return (grouped * a.unsqueeze(2)).flatten(1, 2)  # this order keeps the memory format of x
