"""NAM: a gate from the batch-normalized input, weighted by the scales of the batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive
from ..core.tracing import leaf


class NAM(Attention):
    r"""Scales each value by a gate: its batch norm, times its channel's share of the norm's scales.

    .. math::
        a = \sigma\big(w \odot \mathrm{BN}(x)\big), \quad
        w_c = \frac{|\gamma_c|}{\sum_k |\gamma_k|}, \quad y = a \odot x

    where :math:`\gamma` are the scales of BN; equation 2 of the paper.

    Args:
        channels: :math:`C`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map and y as x.

    Raises:
        ValueError: ``channels`` is not positive.

    >>> NAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Normalization-based Attention",
        paper="NAM: Normalization-based Attention Module",
        authors="Yichao Liu, Zongru Shao, Yueyang Teng, Nico Hoffmann",
        venue="NeurIPS Workshops",
        year=2021,
        url="https://arxiv.org/abs/2111.12419",
        code="https://github.com/Christian-lyc/NAM",
        license="none stated",
        domain="channel",
        computes="pool",
        applies="gate",
        kind="gate",
        equivariant=("pixels",),
        independent=("pixels", "channels"),
        train_differs=True,
        cost=dict(time="n c", memory="n c"),
        aliases=("nam", "normalization_based"),
        differs=(
            "The paper gates positions in the same way, by a norm with a scale per position; the "
            "authors' code, and this one, gates channels only.",
            "The paper normalizes the scales themselves; the authors' code, and this one, takes "
            "their absolute values, and no gradient flows through the weights.",
            "The paper adds the absolute scales to the loss, which is left to the training loop.",
        ),
    )
    axes = Axes("b c *", "b c *", range="unit")

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        self.norm = nn.BatchNorm2d(channels, device=device, dtype=dtype)

    def attention(self, x: Tensor) -> Tensor:
        # `normalize`, because it returns zeros and not NaN if all scales are zero.
        w = normalize(self.norm.weight.detach(), p=1.0, dim=0).abs()
        z = self.norm(_image(x))
        return (z * w[:, None, None]).sigmoid_().reshape(x.shape)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a


@leaf
def _image(x: Tensor) -> Tensor:
    """Return a view of a signal or a video as an image; the memory layout stays the same."""
    return x.flatten(3) if x.dim() > 3 else x.unsqueeze(3)
