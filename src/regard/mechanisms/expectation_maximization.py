"""Expectation-maximization attention: features rebuilt from a few bases fitted to the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, distributed, nn
from torch.linalg import vector_norm

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.conv_norm import CONV, NORM
from ..core.tracing import leaf

EPS = 1e-6

Prepared = tuple[Tensor, Tensor]  # x and its features, b c n


class ExpectationMaximization(Attention):
    r"""Reconstructs the features from K bases that a few EM steps fit to the image.

    .. math::
        y = \delta\big(x + \mathrm{BN}(W_2\, \delta(\mu A^\top))\big), \quad
        A = \operatorname{softmax}_k(Z^\top \mu), \quad
        \mu_k = \Big|\tfrac{\sum_n a_{nk} z_n}{\sum_n a_{nk}}\Big|, \quad Z = W_1 x + b_1

    The last two alternate T times: each position is softly assigned to the bases, then each base
    becomes the normalized mean of its positions. The first bases are a moving average over the
    images of all processes, :math:`\mu \leftarrow \alpha \mu + (1 - \alpha) \bar\mu`, updated in
    training; :math:`\delta` is ReLU. Section 4 of the paper.

    The steps are taken without gradients, so :math:`W_1` and :math:`b_1` do not learn. Before
    wrapping a model in `torch.nn.parallel.DistributedDataParallel`, call
    ``attention.before.requires_grad_(False)``.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_bases: :math:`K`.
        num_steps: :math:`T`.
        momentum: :math:`\alpha`, the weight of the old bases in the moving average; with 1 they
            never change.
        return_bases: Return the image's bases too.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b n k`` for the n positions, y as x;
        with ``return_bases`` y and the bases ``b c k``.

    Raises:
        ValueError: a size is not positive, the momentum is not between 0 and 1, or ``dims`` is
            unknown.

    >>> ExpectationMaximization(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Expectation-maximization attention",
        paper="Expectation-Maximization Attention Networks for Semantic Segmentation",
        authors="Xia Li, Zhisheng Zhong, Jianlong Wu, Yibo Yang, Zhouchen Lin, Hong Liu",
        venue="ICCV",
        year=2019,
        url="https://arxiv.org/abs/1907.13426",
        code="https://github.com/XiaLiPKU/EMANet",
        license="GPL-3.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("pixels",),
        train_differs=True,
        cost=dict(time="n c^2 + n c k", memory="n c + n k"),
        aliases=("emanet", "ema", "emau", "em_attention"),
        differs=(
            "The authors' training script updates the bases, which the network returns; here the "
            "module does it, in training, from the images of all processes.",
            "No gradient passes through the EM steps, as in the authors' code: the first "
            "convolution does not learn, and the input gets its gradient from the shortcut alone.",
        ),
    )
    axes = Axes("b c *", "b n k", range="softmax")

    bases: Tensor

    def __init__(
        self,
        channels: int,
        num_bases: int = 64,
        *,
        num_steps: int = 3,
        momentum: float = 0.9,
        return_bases: bool = False,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels, num_bases=num_bases, num_steps=num_steps)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must be between 0 and 1, got {momentum!r}")
        self.num_steps, self.momentum, self.return_bases = num_steps, momentum, return_bases
        one_of((1, 2, 3), dims=dims)
        self.axes = self.axes.over(dims)
        if return_bases:
            self.axes = replace(self.axes, output=f"{self.axes.output}, b c k")
        factory = {"device": device, "dtype": dtype}
        # As no gradient passes the EM steps, none is asked for: training that is shared among
        # processes stops at a parameter whose gradient never comes.
        self.before = CONV[dims](channels, channels, 1, **factory).requires_grad_(False)
        self.register_buffer("bases", torch.empty(channels, num_bases, **factory))
        self.after = nn.Sequential(
            CONV[dims](channels, channels, 1, bias=False, **factory),
            NORM[dims](channels, momentum=3e-4, **factory),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new layers by He's rule, and random bases of length one."""
        super().reset_parameters()
        for layer in (self.before, self.after[0]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        with torch.no_grad():
            self.bases.copy_(_normalize(self.bases.normal_()))

    def prepare(self, x: Tensor) -> Prepared:
        return x, self.before(x).flatten(2).detach()

    def attention(self, z: Prepared) -> Tensor:
        _, features = z
        a = _assign(features, self.bases)
        for _ in range(self.num_steps - 1):
            a = _assign(features, _fit(features, a))
        return a

    def combine(self, a: Tensor, z: Prepared) -> Tensor | tuple[Tensor, Tensor]:
        x, features = z
        bases = _fit(features, a)  # b c k
        if self.training and self.momentum < 1:
            mean = _mean_over_images(bases.detach()).to(self.bases.dtype)
            self.bases.lerp_(mean, 1 - self.momentum)
        y = (bases @ a.transpose(-2, -1)).relu().unflatten(2, x.shape[2:])
        y = grid.relu(x + self.after(y))
        return (y, bases) if self.return_bases else y


def _assign(features: Tensor, bases: Tensor) -> Tensor:
    """E step: return the soft assignment of each position to the bases, ``b n k``."""
    return precision.softmax(features.transpose(-2, -1) @ bases, -1)


def _fit(features: Tensor, a: Tensor) -> Tensor:
    """M step: return the normalized mean of the positions assigned to each base, ``b c k``."""
    # Divided before the sum: a sum over many positions overflows in half precision.
    return _normalize(features @ (a / (a.sum(1, keepdim=True) + EPS)))


def _normalize(bases: Tensor) -> Tensor:
    """Scale each base to length one."""
    return bases / (vector_norm(bases, dim=-2, keepdim=True) + EPS)


@leaf
def _mean_over_images(bases: Tensor) -> Tensor:
    """Return the mean over the images of all processes, whose batch sizes may differ."""
    dtype = torch.promote_types(bases.dtype, torch.float32)
    count = bases.new_full((1,), bases.shape[0], dtype=dtype)
    total = torch.cat([bases.sum(0, dtype=dtype).flatten(), count])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
    return (total[:-1] / total[-1]).unflatten(0, bases.shape[1:])
