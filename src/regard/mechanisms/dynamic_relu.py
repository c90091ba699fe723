"""Dynamic ReLU: an activation whose slopes and intercepts depend on the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, reduced
from ..core.tracing import leaf

Maps = Tensor | tuple[Tensor, Tensor]


class DynamicReLU(Attention):
    r"""Applies to each channel the largest of several linear functions, computed from the averages.

    .. math::
        y_c = \max_k\, (a_{kc}\, x_c + b_{kc}), \quad
        a_{kc} = \alpha_k + 2\lambda (t^a_{kc} - \tfrac12), \quad
        b_{kc} = \beta_k + t^b_{kc} - \tfrac12, \quad
        t = \sigma\big(W_2\,\delta(W_1 \bar x + b_1) + b_2\big)

    where the bar averages over positions and :math:`\delta` is ReLU; section 3 of the paper.
    If t is a half everywhere, it is ReLU. With ``spatial``, y is scaled by
    :math:`\min(n\, s, 3)/3`, where s is the softmax over the n positions of a linear score.

    In bfloat16, the rounding of the scores changes the softmax of ``spatial`` by a few percent.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        hidden_dim: The hidden channels themselves, instead of ``reduction``.
        slopes: :math:`\alpha_k`; as many functions as there are numbers.
        intercepts: :math:`\beta_k`, as many as there are slopes; None for linear functions through
            zero.
        slope_range: :math:`\lambda`.
        shared: Let all channels share the functions, the paper's form A; if False, each channel has
            its own, form B.
        spatial: Scale each position.
        activation: What :math:`\sigma` is: the ``hard`` sigmoid :math:`\min(\max(u + 3, 0), 6)/6`,
            or a ``sigmoid`` as in the paper.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b k p c 1*`` for k functions and p
        = slope, intercept: the numbers t, or with ``activation="sigmoid"`` the slopes and
        intercepts themselves; with ``spatial`` also ``b 1 *``. y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no hidden channel, the numbers of
            slopes and intercepts differ, or the activation is unknown.

    >>> DynamicReLU(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Dynamic ReLU",
        paper="Dynamic ReLU",
        authors="Yinpeng Chen, Xiyang Dai, Mengchen Liu, Dongdong Chen, Lu Yuan, Zicheng Liu",
        venue="ECCV",
        year=2020,
        url="https://arxiv.org/abs/2003.10027",
        code="https://github.com/microsoft/DynamicHead",
        license="MIT",
        domain="channel",
        computes="pool+fc",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        map_invariant=("pixels",),
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("dyrelu", "dy_relu", "dyrelua", "dyrelub"),
        differs=(
            "The paper has a sigmoid (activation='sigmoid'); the authors released the hard one "
            "with their Dynamic Head.",
            "The paper's form C, with spatial weights, divides them otherwise than the released "
            "code, which spatial=True follows.",
        ),
    )
    axes = Axes("b c *", "coefficients: b k p c 1*", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        hidden_dim: int | None = None,
        slopes: Sequence[float] = (1.0, 0.0),
        intercepts: Sequence[float] | None = (0.0, 0.0),
        slope_range: float = 1.0,
        shared: bool = False,
        spatial: bool = False,
        activation: Literal["hard", "sigmoid"] = "hard",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction, hidden_dim)
        above_zero(slope_range=slope_range)
        one_of(("hard", "sigmoid"), activation=activation)
        if not slopes:
            raise ValueError("slopes must be one number or more, got none")
        if intercepts is not None and len(intercepts) != len(slopes):
            raise ValueError(
                f"intercepts must be as many as slopes, got {intercepts!r} and {slopes!r}"
            )
        self.slopes = tuple(slopes)
        self.intercepts = None if intercepts is None else tuple(intercepts)
        self.slope_range, self.activation = slope_range, activation
        functions = "b k p 1 1*" if shared else "b k p c 1*"
        spread = ", spatial: b 1 *" if spatial else ""
        unit = "unit" if activation == "hard" else "real"
        self.axes = replace(self.axes, map=f"coefficients: {functions}{spread}", range=unit)
        factory = {"device": device, "dtype": dtype}
        width = 1 if shared else channels
        self.shape = (len(slopes), 1 if intercepts is None else 2, width)
        self.squeeze = nn.Linear(channels, hidden_dim, **factory)
        self.excite = nn.Linear(hidden_dim, self.shape[0] * self.shape[1] * width, **factory)
        self.look = nn.Linear(channels, 1, **factory) if spatial else None
        self.norm = nn.BatchNorm1d(1, **factory) if spatial else None

    def attention(self, x: Tensor) -> Maps:
        scores = self.excite(self.squeeze(grid.mean(x)).relu()).unflatten(1, self.shape)
        if self.activation == "hard":
            a = grid.over_positions(grid.hard_sigmoid(scores), x)
        else:
            a = self._scaled(grid.over_positions(scores.sigmoid(), x))
        if self.look is None or self.norm is None:
            return a
        scores = self.look(x.flatten(2).transpose(1, 2)).transpose(1, 2)  # b 1 n
        weights = precision.softmax(self.norm(scores), 2) * scores.shape[2]
        return a, _laid_out(weights.clamp(max=3) / 3, x)

    def combine(self, a: Maps, x: Tensor) -> Tensor:
        a, weights = a if isinstance(a, tuple) else (a, None)
        a = self._scaled(a) if self.activation == "hard" else a
        y = self._line(a, 0, x)
        for k in range(1, len(self.slopes)):
            y = torch.maximum(y, self._line(a, k, x))
        return y if weights is None else y * weights

    def _line(self, a: Tensor, k: int, x: Tensor) -> Tensor:
        y = x * a[:, k, 0]
        return y if self.intercepts is None else y + a[:, k, 1]

    def _scaled(self, t: Tensor) -> Tensor:
        """Turn numbers from 0 to 1 into slopes and intercepts."""
        t = t - 0.5
        start, scale = [self.slopes], [2 * self.slope_range]
        if self.intercepts is not None:
            start, scale = [self.slopes, self.intercepts], [2 * self.slope_range, 1.0]
        return _affine(t, scale, start)


@leaf
def _affine(t: Tensor, scale: list[float], start: Sequence[Sequence[float]]) -> Tensor:
    """Scale and shift ``b k p c …``: a scale for each p, a start for each p and k."""
    ones = [1] * (t.dim() - 3)
    scale_p = t.new_tensor(scale).reshape(-1, *ones)
    return t * scale_p + t.new_tensor(start).T.reshape(t.shape[1], -1, *ones)


@leaf
def _laid_out(weights: Tensor, x: Tensor) -> Tensor:
    return weights.reshape(x.shape[0], 1, *x.shape[2:])
