"""The block of RCAN: a residual connection around two convolutions and squeeze-and-excitation."""

from __future__ import annotations

from torch import Tensor, nn

from .squeeze_excitation import SqueezeExcitation


class ResidualChannelBlock(nn.Module):
    """RCAN's block: two convolutions and squeeze-and-excitation, added to the input."""

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        *,
        reduction: int,
        bias: bool = True,
        norm: bool = False,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for activation in ([nn.ReLU()], []):
            conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, bias=bias)
            layers += [conv, *([nn.BatchNorm2d(channels)] if norm else []), *activation]
        self.body = nn.Sequential(*layers, SqueezeExcitation(channels, reduction, bias=True))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        return x + self.body(x) * self.scale
