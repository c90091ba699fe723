"""EfficientNet-CondConv, whose last blocks mix the kernels of their convolutions per image."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention
from ..core.check import positive
from ..core.mixed_conv import MixedConv
from ..mechanisms.cond_conv import CondConv

STAGES = (4, 5, 6)  # of 112, 192 and 320 channels


class CondConvEfficientBlock(Attention):
    r"""A block of EfficientNet whose three convolutions mix experts by the same weights.

    .. math::
        y = x + \mathrm{BN}\,P_a\,S\;\delta\,\mathrm{BN}\,D_a\;\delta\,\mathrm{BN}\,E_a\,x, \quad
        a = \sigma(R\,\bar x + r)

    where E, D and P are the expanding, depthwise and projecting convolutions and S is the block's
    squeeze-and-excitation, which has no experts, nor have the norms.

    Args:
        block: The block of timm, whose norms and squeeze-and-excitation are reused.
        num_experts: Kernels to mix in each convolution.

    Shape:
        x ``b c h w``, map ``b e`` for e experts, y ``b o h' w'``.
    """

    axes = CondConv.axes

    def __init__(self, block: Any, num_experts: int) -> None:
        super().__init__(c=block.conv_pw.in_channels)
        positive(num_experts=num_experts)
        like = block.conv_pw.weight
        factory: dict[str, Any] = {"device": like.device, "dtype": like.dtype}

        def mixed_like(old: nn.Conv2d) -> MixedConv:
            geometry: dict[str, Any] = {"stride": old.stride, "groups": old.groups}
            sizes = (old.in_channels, old.out_channels, old.kernel_size)
            return MixedConv(*sizes, num_experts, padding="same", **geometry, **factory)

        self.route = nn.Linear(block.conv_pw.in_channels, num_experts, **factory)
        self.widen, self.widen_norm = (
            mixed_like(block.conv_pw),
            block.bn1,
        )  # timm's norm includes the activation
        self.depthwise, self.depthwise_norm = mixed_like(block.conv_dw), block.bn2
        self.squeeze = block.se
        self.narrow, self.narrow_norm = mixed_like(block.conv_pwl), block.bn3
        self.drop = block.drop_path if block.has_skip else None

    def attention(self, x: Tensor) -> Tensor:
        """Return the weights of the experts."""
        return self.route(grid.mean(x)).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        """Convolve with the mixed kernels."""
        y = self.widen_norm(self.widen(x, a))
        y = self.squeeze(self.depthwise_norm(self.depthwise(y, a)))
        y = self.narrow_norm(self.narrow(y, a))
        return y if self.drop is None else x + self.drop(y)


def efficientnet(
    num_classes: int = 1000, in_chans: int = 3, *, num_experts: int = 4, **options: Any
) -> nn.Module:
    """Build EfficientNet-B0 with CondConv in its last three stages.

    Args:
        num_classes: Number of scores; 0 returns the features.
        in_chans: Channels of an image.
        num_experts: Kernels to mix in each convolution.
        options: Other arguments of timm's EfficientNet.

    Raises:
        ValueError: ``num_experts`` is not positive.
        ImportError: timm is not installed.

    >>> efficientnet(10, num_experts=2, device="meta").blocks[6][0].route
    Linear(in_features=192, out_features=2, bias=True)
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError('efficientnet needs timm: pip install "regard[vision]"') from error
    options = {"num_classes": num_classes, "in_chans": in_chans, **options}
    model: Any = timm.create_model("tf_efficientnet_b0", **options)
    for stage in STAGES:
        blocks = model.blocks[stage]
        for i, block in enumerate(blocks):
            blocks[i] = CondConvEfficientBlock(block, num_experts)
    return model
