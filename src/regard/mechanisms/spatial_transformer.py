"""Spatial transformer: an affine warp of the input, predicted from the input."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive
from ..core.tracing import at_least, leaf


class SpatialTransformer(Attention):
    r"""Samples the input on a grid transformed by an affine map that a small network predicts.

    .. math::
        \theta = \mathrm{loc}(x) \in \mathbb{R}^{2 \times 3}, \quad
        (u, v)_{ij} = \theta\,(j, i, 1)^\top, \quad
        y_{cij} = \textstyle\sum_{nm} x_{cnm} \max(0, 1 - |u - m|) \max(0, 1 - |v - n|)

    with coordinates from -1 to 1 and zeros outside the image; equations 1 and 5 of the paper. A new
    module is the identity, up to rounding.

    In half precision, the sampled positions are rounded by a part of a pixel.

    Args:
        channels: Channels of x.
        input_size: Height and width of the localization network's input, or one number for both; x
            is resized for this network only.
        kernel_sizes: Sides of the kernels of its two convolutions.
        hidden_channels: Channels of its two convolutions.
        hidden_dim: Units of its hidden fully connected layer.
        align_corners: Put -1 and 1 at the centers of the outermost pixels, not at their edges.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b h w 2`` (the x and y at which each output position samples), y as x.

    Raises:
        ValueError: a size is not positive, or ``input_size`` is too small for the convolutions and
            pools.

    >>> SpatialTransformer(1)(torch.randn(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    card = Card(
        title="Spatial Transformer",
        paper="Spatial Transformer Networks",
        authors="Max Jaderberg, Karen Simonyan, Andrew Zisserman, Koray Kavukcuoglu",
        venue="NeurIPS",
        year=2015,
        url="https://arxiv.org/abs/1506.02025",
        code="https://github.com/pytorch/tutorials",
        license="BSD-3-Clause",
        domain="spatial",
        computes="conv+fc",
        applies="sample",
        kind="relation",
        cost=dict(time="n c", memory="n c"),
        aliases=("stn", "spatial_transformer_network"),
        differs=(
            "The paper leaves the localization network open; the default is the one of the PyTorch "
            "tutorial, the best known.",
            "The paper does not define the corners: align_corners=False is today's convention, "
            "True was that of the first re-implementations.",
        ),
    )
    axes = Axes("b c h w", "b h w 2", range="offset")

    def __init__(
        self,
        channels: int,
        input_size: int | Sequence[int] = 28,
        *,
        kernel_sizes: Sequence[int] = (7, 5),
        hidden_channels: Sequence[int] = (8, 10),
        hidden_dim: int = 32,
        align_corners: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        self.input_size = (
            (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        )
        for name, pair in {
            "input_size": self.input_size,
            "kernel_sizes": kernel_sizes,
            "hidden_channels": hidden_channels,
        }.items():
            if len(pair) != 2:
                raise ValueError(f"{name} must be two numbers, got {pair!r}")
            for number in pair:
                positive(**{name: number})
        positive(channels=channels, hidden_dim=hidden_dim)
        output_size = self.input_size
        for kernel in kernel_sizes:
            output_size = tuple((side - kernel + 1) // 2 for side in output_size)
        if min(output_size) < 1:
            raise ValueError(
                f"input_size {self.input_size} is too small for kernel_sizes "
                f"{tuple(kernel_sizes)}: nothing is left after the convolutions and pools"
            )
        self.align_corners = align_corners
        factory = {"device": device, "dtype": dtype}
        self.localize = nn.Sequential(
            nn.Conv2d(channels, hidden_channels[0], kernel_sizes[0], **factory),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(hidden_channels[0], hidden_channels[1], kernel_sizes[1], **factory),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(hidden_channels[1] * math.prod(output_size), hidden_dim, **factory),
            nn.ReLU(),
        )
        self.place = nn.Linear(hidden_dim, 6, **factory)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Reset the localization network; its last layer starts as the identity map."""
        super().reset_parameters()
        nn.init.zeros_(self.place.weight)
        with torch.no_grad():
            self.place.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def attention(self, x: Tensor) -> Tensor:
        # Without a test for equal sizes, which would fix the sizes of an exported model.
        resized = interpolate(x, self.input_size, mode="bilinear", align_corners=False)
        return _affine_grid(self.place(self.localize(resized)), x, self.align_corners)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return _sample(x, a, self.align_corners)


@leaf
def _affine_grid(theta: Tensor, x: Tensor, align_corners: bool) -> Tensor:
    """Return the sampling coordinates of each position of x, ``b h w 2``."""
    # Half precision cannot tell neighboring pixels of a large image apart.
    dtype = torch.promote_types(theta.dtype, torch.float32)

    def coordinates(n: int) -> Tensor:
        ticks = 2 * torch.arange(n, device=x.device, dtype=dtype) - (n - 1)
        return ticks / (at_least(n - 1, 1) if align_corners else n)

    v, u = torch.meshgrid(coordinates(x.shape[2]), coordinates(x.shape[3]), indexing="ij")
    base = torch.stack([u, v, torch.ones_like(u)], 2).unsqueeze(2)  # h w 1 3
    # Not a matrix product, which autocast would compute in half precision.
    return (base * theta.to(dtype).unflatten(1, (2, 3))[:, None, None]).sum(4)


@leaf
def _sample(x: Tensor, grid: Tensor, align_corners: bool) -> Tensor:
    """Sample x on a grid, with zeros outside; dtype and memory format are those of x."""
    y = grid_sample(x.to(grid.dtype), grid, align_corners=align_corners).to(x.dtype)
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if channels_last else y
