"""Hamburger: the image is reconstructed from a few non-negative bases, found by iteration."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision, tokens
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive
from ..core.conv_norm import CONV, NORM, conv_norm
from ..core.tracing import leaf

# x; the features b s n d; of each the bases b s d r, and the coefficients b s n r
Prepared = tuple[Tensor, Tensor, Tensor, Tensor]

EPS = 1e-6  # of the quotients of the updates


class Hamburger(Attention):
    r"""Adds a low-rank reconstruction of the features, by non-negative matrix factorization.

    .. math::
        y = \delta\big(x + \operatorname{BN}(W_2 \bar X)\big), \quad \bar X = D C^\top, \quad
        C \leftarrow C \odot \frac{X^\top D}{C D^\top D}, \quad
        D \leftarrow D \odot \frac{X C}{D C^\top C}

    for :math:`X = \delta(W_1 x)`, ReLU :math:`\delta`, and T updates of the coefficients C, which
    start as a softmax of :math:`X^\top D`, and of the bases D; equations 4 to 6 and algorithm 1 of
    the paper. Of the updates, only a last one of C has a gradient. The coefficients are the map.

    In half precision, the updates are computed in single precision.

    Args:
        channels: Channels of x.
        hidden_dim: Channels of X; ``channels`` by default.
        num_bases: Number of bases, r.
        groups: Groups of the channels of X that are factorized apart.
        train_steps: :math:`T` in training.
        eval_steps: :math:`T` in evaluation.
        gradient: Let ``one_step`` or ``all`` of the updates have a gradient.
        form: Apply batch norm to the projection, ``plain``; or project, norm and activate
            :math:`\bar X` before it, ``cheese``.
        reduction: Divide the channels of the layer between by this; with ``form="cheese"`` only.
        hidden_bias: Give :math:`W_1` a bias.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b s n r`` for s groups and r bases, y
        as x.

    Raises:
        ValueError: a size is not positive, ``groups`` does not divide ``hidden_dim``, or
            ``gradient``, ``form`` or ``dims`` is unknown.

    >>> Hamburger(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Hamburger",
        paper="Is Attention Better Than Matrix Decomposition?",
        authors="Zhengyang Geng, Meng-Hao Guo, Hongxu Chen, Xia Li, Ke Wei, Zhouchen Lin",
        venue="ICLR",
        year=2021,
        url="https://arxiv.org/abs/2109.04553",
        code="https://github.com/Gsunshine/Enjoy-Hamburger",
        license="GPL-3.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ham", "hamnet", "nmf", "light_ham", "lighthamhead"),
        differs=(
            "The first bases are the same numbers for all images and modules, drawn from one seed, "
            "so that the same input gives the same output; the authors' code draws them in each "
            "call.",
            "The default is the first of the authors' forms; their last one, which also factorizes "
            "over positions, is not here.",
        ),
    )
    axes = Axes("b c *", "b s n r")

    bases: Tensor

    def __init__(
        self,
        channels: int,
        hidden_dim: int | None = None,
        *,
        num_bases: int = 64,
        groups: int = 1,
        train_steps: int = 6,
        eval_steps: int = 7,
        gradient: Literal["one_step", "all"] = "one_step",
        form: Literal["plain", "cheese"] = "plain",
        reduction: int = 1,
        hidden_bias: bool = True,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        hidden_dim = channels if hidden_dim is None else hidden_dim
        divides(hidden_dim=hidden_dim, groups=groups)
        divides(hidden_dim=hidden_dim, reduction=reduction)
        positive(num_bases=num_bases, train_steps=train_steps, eval_steps=eval_steps)
        one_of(("one_step", "all"), gradient=gradient)
        one_of(("plain", "cheese"), form=form)
        one_of((1, 2, 3), dims=dims)
        self.groups, self.one_step = groups, gradient == "one_step"
        self.train_steps, self.eval_steps = train_steps, eval_steps
        self.axes = self.axes.over(dims)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.before = CONV[dims](channels, hidden_dim, 1, bias=hidden_bias, **factory)
        shape = groups, hidden_dim // groups, num_bases
        self.register_buffer("bases", torch.empty(shape, **factory), persistent=False)
        self.cheese = None
        if form == "cheese":
            self.cheese = conv_norm(
                hidden_dim, hidden_dim // reduction, dims=dims, activation=nn.ReLU(), **factory
            )
        width = hidden_dim // reduction if form == "cheese" else hidden_dim
        self.after = CONV[dims](width, channels, 1, bias=False, **factory)
        self.norm = NORM[dims](channels, **factory) if form == "plain" else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new layers by He's rule, and the same bases of length one, not negative."""
        super().reset_parameters()
        for layer in self.modules():
            if isinstance(layer, tuple(CONV.values())):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        drawn = torch.rand(self.bases.shape, generator=torch.Generator().manual_seed(0))
        self.bases.copy_(drawn / drawn.norm(dim=1, keepdim=True))

    def prepare(self, x: Tensor) -> Prepared:
        features = _by_group(self.before(x).relu(), self.groups)  # b s n d
        steps = self.train_steps if self.training else self.eval_steps
        fixed = features.detach() if self.one_step else features
        bases, coefficients = _factorized(fixed, self.bases, self.groups, steps)
        return x, features, bases, coefficients

    def attention(self, z: Prepared) -> Tensor:
        _, features, bases, coefficients = z
        return _updated(coefficients, features, bases)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, features, bases, _ = z
        y = _reconstructed(a, bases, features, x)
        y = y if self.cheese is None else self.cheese(y)
        return grid.relu(x + self.norm(self.after(y)))


@leaf
def _by_group(features: Tensor, groups: int) -> Tensor:
    """Return ``b c *`` as ``b s n d``, in single precision at least."""
    return precision.widen(features.flatten(2).unflatten(1, (groups, -1)).transpose(-2, -1))


@leaf
def _factorized(features: Tensor, bases: Tensor, groups: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return bases ``b s d r`` and coefficients ``b s n r`` after some updates of both."""
    bases = precision.widen(bases).unflatten(0, (-1, groups))  # for all images, or one for each
    bases = bases.expand(features.shape[0], -1, -1, -1)
    coefficients = precision.softmax(precision.matmul(features, bases), -1)
    for _ in range(steps):
        coefficients = _updated(coefficients, features, bases)
        bases = _updated(bases, features.transpose(-2, -1), coefficients)
    return bases, coefficients


@leaf
def _updated(own: Tensor, features: Tensor, other: Tensor) -> Tensor:
    """Return one factor ``… n r`` of the features ``… n d`` closer to them, given the other."""
    correlated = precision.matmul(other.transpose(-2, -1), other)
    return own * precision.matmul(features, other) / (precision.matmul(own, correlated) + EPS)


@leaf
def _reconstructed(a: Tensor, bases: Tensor, features: Tensor, x: Tensor) -> Tensor:
    """Return the product of both factors as a grid like x."""
    y = precision.matmul(a, bases.transpose(-2, -1)).to(x.dtype)
    return tokens.heads_to_grid(y, x)
