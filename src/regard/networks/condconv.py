"""EfficientNet-CondConv: its last blocks mix the kernels of their three convolutions anew."""

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
    r"""A block of EfficientNet whose three convolutions are mixed of experts by one routing.

    .. math::
        y = x + \mathrm{BN}\,P_a\,S\;\delta\,\mathrm{BN}\,D_a\;\delta\,\mathrm{BN}\,E_a\,x, \quad
        a = \sigma(R\,\bar x + r)

    with S the block's squeeze-and-excitation, which is not mixed, like the norms.

    Args:
        block: The block of timm, whose norms and squeeze-and-excitation go on being used.
        experts: Kernels to mix in each convolution.

    Shape:
        x ``b c h w``, map ``b e`` for the e experts, y ``b o h' w'``.
    """

    axes = CondConv.axes

    def __init__(self, block: Any, experts: int) -> None:
        super().__init__(c=block.conv_pw.in_channels)
        positive(experts=experts)
        like = block.conv_pw.weight
        factory: dict[str, Any] = {"device": like.device, "dtype": like.dtype}

        def mixed(old: nn.Conv2d) -> MixedConv:
            geometry: dict[str, Any] = {"stride": old.stride, "groups": old.groups}
            sizes = (old.in_channels, old.out_channels, old.kernel_size)
            return MixedConv(*sizes, experts, padding="same", **geometry, **factory)

        self.route = nn.Linear(block.conv_pw.in_channels, experts, **factory)
        self.widen, self.widen_norm = mixed(block.conv_pw), block.bn1  # a norm of timm activates
        self.depthwise, self.depthwise_norm = mixed(block.conv_dw), block.bn2
        self.squeeze = block.se
        self.narrow, self.narrow_norm = mixed(block.conv_pwl), block.bn3
        self.drop = block.drop_path if block.has_skip else None

    def attention(self, x: Tensor) -> Tensor:
        """The weights of the experts."""
        return self.route(grid.mean(x)).sigmoid()

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        """Convolve by the mixed kernels."""
        y = self.widen_norm(self.widen(x, a))
        y = self.squeeze(self.depthwise_norm(self.depthwise(y, a)))
        y = self.narrow_norm(self.narrow(y, a))
        return y if self.drop is None else x + self.drop(y)


def efficientnet(
    num_classes: int = 1000, in_chans: int = 3, *, experts: int = 4, **options: Any
) -> nn.Module:
    """EfficientNet-B0 with CondConv in the last three of its groups of blocks.

    Args:
        num_classes: Scores of an image; 0 gives the features.
        in_chans: Channels of an image.
        experts: Kernels to mix in each convolution.
        options: What timm's EfficientNet takes.

    Raises:
        ValueError: the experts are not positive.
        ImportError: timm is not there.

    >>> efficientnet(10, experts=2, device="meta").blocks[6][0].route
    Linear(in_features=192, out_features=2, bias=True)
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError('efficientnet needs timm: pip install "regard[vision]"') from error
    made = {"num_classes": num_classes, "in_chans": in_chans, **options}
    model: Any = timm.create_model("tf_efficientnet_b0", **made)
    for stage in STAGES:
        blocks = model.blocks[stage]
        for i, block in enumerate(blocks):
            blocks[i] = CondConvEfficientBlock(block, experts)
    return model
