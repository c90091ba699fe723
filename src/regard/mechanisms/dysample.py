"""DySample: upsampling by sampling the image at points that depend on the content."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, pixel_shuffle

from ..core import precision
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, one_of, positive
from ..core.tracing import leaf


class DySample(Attention):
    r"""Upsamples x: each output pixel is read from x at its own place, moved by a learned offset.

    .. math::
        y_{g}(s p + i,\, s q + j) = x_{g}\big(p + \tfrac{i - (s-1)/2}{s} + o_y,\;
        q + \tfrac{j - (s-1)/2}{s} + o_x\big), \quad o = \tfrac14 (W x + b)

    with bilinear interpolation between pixels, for each group g of channels; equations 2 to 4 of
    the paper. Without offsets it is bilinear upsampling. Offsets are in pixels of x; places
    outside the image are moved to its border.

    Args:
        channels: :math:`C`.
        scale_factor: :math:`s`.
        groups: Number of groups of channels, each with offsets of its own.
        style: ``lp`` computes the offsets from x; ``pl`` from x after a pixel shuffle, with fewer
            parameters.
        dynamic_scope: Multiply the offsets by :math:`\sigma(V x)/2` instead of a quarter.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map offset ``b a g i j h w`` (a: to the right, then down; from the center of
        a pixel of x, for each of the i × j output pixels above it), y ``b c y x``, ``scale_factor``
        times as high and wide as x; the part ``tap_grid`` ``b g y x a``, the places from -1 to 1.

    Raises:
        ValueError: a size is not positive, ``groups``, or for ``pl`` the square of the scale, does
            not divide the channels, or the style is unknown.

    >>> DySample(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 18, 14])
    """

    card = Card(
        title="DySample",
        paper="Learning to Upsample by Learning to Sample",
        authors="Wenze Liu, Hao Lu, Hongtao Fu, Zhiguo Cao",
        venue="ICCV",
        year=2023,
        url="https://arxiv.org/abs/2308.15085",
        code="https://github.com/tiny-smart/dysample",
        license="MIT",
        domain="spatial",
        computes="conv",
        applies="sample",
        kind="upsampler",
        cost=dict(time="n c", memory="n c"),
        aliases=("dysample", "dy_sample", "dynamic_sample_upsampler", "learning_to_sample"),
    )
    axes = Axes(
        "b c h w",
        "offset: b a g i j h w",
        output="b c y x",
        parts=dict(grid="b g y x a"),
        range="offset",
    )

    def __init__(
        self,
        channels: int,
        scale_factor: int = 2,
        *,
        groups: int = 4,
        style: Literal["lp", "pl"] = "lp",
        dynamic_scope: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(scale_factor=scale_factor)
        divides(channels=channels, groups=groups)
        one_of(("lp", "pl"), style=style)
        square = scale_factor**2
        if style == "pl" and channels % square:
            raise ValueError(
                f"scale_factor ({scale_factor}) squared must divide channels ({channels}) for "
                "style='pl'"
            )
        self.scale_factor, self.groups, self.style = scale_factor, groups, style
        width = channels // square if style == "pl" else channels
        numbers = 2 * groups if style == "pl" else 2 * groups * square
        factory = {"device": device, "dtype": dtype}
        self.offset = nn.Conv2d(width, numbers, 1, **factory)
        self.scope = nn.Conv2d(width, numbers, 1, bias=False, **factory) if dynamic_scope else None
        self.tap_grid = Tap()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the offsets are almost zero, and the scope is a quarter."""
        super().reset_parameters()
        nn.init.normal_(self.offset.weight, std=0.001)
        if self.offset.bias is not None:
            nn.init.zeros_(self.offset.bias)
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def attention(self, x: Tensor) -> Tensor:
        s = self.scale_factor
        z = pixel_shuffle(x, s) if self.style == "pl" else x
        scope = 0.25 if self.scope is None else precision.conv2d(self.scope, z).sigmoid() * 0.5
        o = precision.conv2d(self.offset, z) * scope
        if self.style == "lp":
            return _from_centers(o.unflatten(1, (2, self.groups, s, s)))
        # Not pixel_unshuffle, which returns another shape for a batch of none.
        o = o.unflatten(3, (-1, s)).unflatten(2, (-1, s)).unflatten(1, (2, self.groups))
        return _from_centers(o.permute(0, 1, 2, 4, 6, 3, 5))  # from b a g h i w j

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return _sample(x, self.tap_grid(_places(a)))


@leaf
def _from_centers(o: Tensor) -> Tensor:
    """Add the place of each output pixel to its offset ``b a g i j h w``."""
    s = o.shape[3]
    start = (torch.arange(s, device=o.device, dtype=o.dtype) - (s - 1) / 2) / s
    return (
        o
        + torch.stack([start.expand(s, s), start[:, None].expand(s, s)])[:, None, :, :, None, None]
    )


@leaf
def _places(a: Tensor) -> Tensor:
    """Return the places ``b g y x a`` from -1 to 1, the edges of the image, for the sampler."""
    h, w = a.shape[5:]
    column = torch.arange(w, device=a.device, dtype=a.dtype)
    row = torch.arange(h, device=a.device, dtype=a.dtype)[:, None]
    u = (2 * (a[:, 0] + column) + 1) / w - 1  # b g i j h w
    v = (2 * (a[:, 1] + row) + 1) / h - 1
    places = torch.stack([u, v], -1).permute(0, 1, 4, 2, 5, 3, 6)  # b g h i w j a
    return places.flatten(4, 5).flatten(2, 3)


@leaf
def _sample(x: Tensor, places: Tensor) -> Tensor:
    g, last = places.shape[1], x.is_contiguous(memory_format=torch.channels_last)
    z = precision.widen(x).unflatten(1, (g, -1)).flatten(0, 1)
    y = grid_sample(
        z, places.flatten(0, 1), mode="bilinear", padding_mode="border", align_corners=False
    )
    y = y.unflatten(0, (-1, g)).flatten(1, 2).to(x.dtype)
    return y.contiguous(memory_format=torch.channels_last) if last else y
