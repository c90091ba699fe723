"""Gather-Excite: each channel gated by its own average, over windows or the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive, reduced


class GatherExcite(Attention):
    r"""Scales each channel by a gate gathered from windows of it, or from all of its positions.

    .. math::
        a = \sigma(\mathrm{up}(\xi(x))), \quad y = a \odot x

    where :math:`\xi` averages over windows of :math:`2e - 1` positions with stride e (the paper's
    GE-:math:`\theta^-`), or is :math:`\log_2 e` depthwise convolutions of stride 2
    (:math:`\theta`), optionally followed by two layers over the channels (:math:`\theta^+`); up is
    nearest-neighbor upsampling; section 3 of the paper.

    Args:
        channels: :math:`C`.
        extent: e, a power of two in the ``conv`` and ``mlp`` forms; None for all positions.
        form: Gather by average pooling (``pool``, :math:`\theta^-`), by convolutions (``conv``,
            :math:`\theta`), or by convolutions and the two layers (``mlp``, :math:`\theta^+`).
        input_size: Height and width of x; the convolutional forms need it to gather over all
            positions, with one kernel of this size.
        reduction: The two layers have :math:`\lfloor C/r \rfloor` hidden channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c y x`` (the size of x, or :math:`1 \times 1` without an extent), y
        as x.

    Raises:
        ValueError: a size is not positive, the extent is 1 or not a power of two where it has to
            be, the reduction leaves no hidden channel, the form is unknown, or ``input_size`` is
            missing or not used.

    >>> GatherExcite(64, 4)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Gather-Excite",
        paper="Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks",
        authors="Jie Hu, Li Shen, Samuel Albanie, Gang Sun, Andrea Vedaldi",
        venue="NeurIPS",
        year=2018,
        url="https://arxiv.org/abs/1810.12348",
        code="https://github.com/hujie-frank/GENet",
        license="none stated",
        domain="channel",
        computes="pool",
        applies="gate",
        kind="gate",
        equivariant=("pixels", "channels"),
        map_invariant=("pixels",),
        independent=("channels",),
        cost=dict(time="n c", memory="n c"),
        aliases=("ge", "genet"),
        differs=(
            "Windows at the border average only the positions inside the image; the paper does not "
            "say, and the authors' Caffe layer would count the padding too.",
            "The gates are upsampled by nearest neighbor, as in the paper; the authors' figures do "
            "not say how.",
            "The released models gather over the whole image only; smaller extents follow the "
            "released figures.",
        ),
    )
    axes = Axes("b c h w", "b c y x", range="unit")

    def __init__(
        self,
        channels: int,
        extent: int | None = None,
        *,
        form: Literal["pool", "conv", "mlp"] = "pool",
        input_size: Sequence[int] | None = None,
        reduction: int = 16,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, reduction=reduction)
        one_of(("pool", "conv", "mlp"), form=form)
        if extent is not None:
            positive(extent=extent)
            if extent == 1 or (form != "pool" and extent & (extent - 1)):
                expected = "above one" if form == "pool" else "2, 4, 8, …"
                raise ValueError(f"extent must be {expected}, got {extent}")
        needs_size = form != "pool" and extent is None
        if needs_size != (input_size is not None):
            expected = "must be given" if needs_size else "must be None"
            raise ValueError(
                f"input_size {expected} with form={form!r}, extent={extent}, got {input_size}"
            )
        if input_size is not None and len(input_size) != 2:
            raise ValueError(f"input_size must be a height and a width, got {input_size!r}")
        for side in input_size or ():
            positive(input_size=side)
        super().__init__(c=channels, **dict(zip("hw", input_size or (), strict=False)))
        self.extent = extent
        self.form = form
        if form == "pool":
            return
        factory = {"device": device, "dtype": dtype}
        depthwise = {"groups": channels, "bias": False, **factory}
        if input_size is not None:
            kernels = [nn.Conv2d(channels, channels, (input_size[0], input_size[1]), **depthwise)]
        else:
            kernels = [
                nn.Conv2d(channels, channels, 3, 2, 1, **depthwise)
                for _ in range((extent or 1).bit_length() - 1)
            ]
        self.gathers = nn.ModuleList(kernels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, **factory) for _ in kernels)
        if form == "mlp":
            hidden_dim = reduced(channels, reduction)
            self.squeeze = nn.Conv2d(channels, hidden_dim, 1, **factory)
            self.excite = nn.Conv2d(hidden_dim, channels, 1, **factory)

    def attention(self, x: Tensor) -> Tensor:
        a = self.gather(x).sigmoid()
        return a if self.extent is None else interpolate(a, size=x.shape[2:], mode="nearest")

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return x * a  # x first: the result has its memory format

    def gather(self, x: Tensor) -> Tensor:
        if self.form == "pool":
            if (e := self.extent) is None:
                return grid.broadcast_gate(grid.mean(x), x)
            return avg_pool2d(x, 2 * e - 1, e, e - 1, count_include_pad=False)
        z = x
        for i, (convolve, norm) in enumerate(zip(self.gathers, self.norms, strict=True)):
            z = convolve(z.relu() if i else z)
            z = norm(z)
        return self.excite(self.squeeze(z.relu()).relu()) if self.form == "mlp" else z
