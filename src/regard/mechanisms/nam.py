"""NAM: the scales of a batch norm say how much each channel counts in its gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive
from ..core.tracing import leaf


@leaf
def image(x: Tensor) -> Tensor:
    """A signal or a film as an image, in the same memory: any layout keeps its speed."""
    return x.flatten(3) if x.dim() > 3 else x.unsqueeze(3)


class NAM(Attention):
    r"""Gates x by its batch norm, each channel weighed by its share of the norm's scales.

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
            "The paper weighs positions in the same way, by a norm with a scale for each of them; "
            "the authors' code, like this, weighs channels only.",
            "The paper's weights are shares of the scales themselves; the authors' code, like "
            "this, takes their magnitudes, and no gradient flows through the weights.",
            "The paper adds the magnitude of the scales to the loss, which is left to the "
            "training loop.",
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
        # Scales that are all zero give weights of zero, not NaN.
        w = normalize(self.norm.weight.detach(), p=1.0, dim=0).abs()
        z = self.norm(image(x))
        return (z * w[:, None, None]).sigmoid_().reshape(x.shape)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a
