"""Residual attention: a trunk branch whose features are scaled by an hourglass mask branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad

from ..core import grid
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive, reduced
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf


class ResidualAttentionModule(Attention):
    r"""Scales each feature of a trunk branch by one plus a mask from an encoder-decoder branch.

    .. math::
        y = u\big((1 + a) \odot T(z)\big), \quad
        a = \sigma\big(W_2\,\delta(\mathrm{BN}(W_1\,\delta(\mathrm{BN}(M(z)))))\big), \quad
        z = u(x)

    where u is a residual unit (a pre-activation bottleneck), T is two of them, and :math:`\delta`
    is ReLU. The hourglass M is max pooling with a unit after each pool and two at the bottom, then
    bilinear upsampling to the size of x with a unit after each step and one on each skip
    connection. Equations 3 and 4 and figure 2 of the paper, with its p = 1, t = 2, r = 1;
    `ResidualAttentionNetwork` is built from these modules.

    In half precision, rounding can change on which side of its step the sigmoid is where scores
    are in the hundreds.

    Args:
        channels: :math:`C`.
        reduction: The bottlenecks have :math:`\lfloor C/r \rfloor` channels.
        levels: Number of pooling steps: 3, 2 and 1 in the three stages of the network.
        ceil_mode: Let pooling windows extend past the lower and right edges, as in Caffe; otherwise
            they are centered on every other position, with padding on all sides.
        skip_connections: Add the encoder's features, and after the last upsampling the trunk's, to
            the upsampled ones.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w``, y as x.

    Raises:
        ValueError: a size is not positive, the reduction leaves no channel.

    >>> ResidualAttentionModule(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Residual Attention",
        paper="Residual Attention Network for Image Classification",
        authors=(
            "Fei Wang, Mengqing Jiang, Chen Qian, Shuo Yang, Cheng Li, Honggang Zhang, Xiaogang "
            "Wang, Xiaoou Tang"
        ),
        venue="CVPR",
        year=2017,
        url="https://arxiv.org/abs/1704.06904",
        code="https://github.com/fwang91/residual-attention-network",
        license="none stated",
        domain="channel+spatial",
        computes="pool+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=("ran", "residual_attention", "residual_attention_network"),
        differs=(
            "A map of one row or column is pooled to itself; the authors' Caffe layer has no "
            "output for it.",
            "The re-implementation of tengshaofeng pads its pools (ceil_mode=False) and adds the "
            "features of the encoder and of the trunk to the mask (skip_connections=True); the "
            "authors' models do neither.",
            "The paper also tries masks normalized over channels or positions (equations 5 and 6) "
            "and finds them worse; only the sigmoid of its networks is here.",
            "The re-implementation takes every size to upsample to as an argument; here the sizes "
            "follow the input.",
        ),
    )
    axes = Axes("b c h w", "b c h w", range="unit")

    def __init__(
        self,
        channels: int,
        reduction: int = 4,
        *,
        levels: int = 3,
        ceil_mode: bool = True,
        skip_connections: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction)
        positive(levels=levels)
        self.ceil_mode = ceil_mode
        self.skip_connections = skip_connections
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def unit() -> _Unit:
            return _Unit(channels, channels, hidden_dim, **factory)

        def norm_conv() -> list[nn.Module]:
            conv = nn.Conv2d(channels, channels, 1, bias=False, **factory)
            return [nn.BatchNorm2d(channels, **factory), nn.ReLU(), conv]

        self.before = unit()
        self.trunk = nn.Sequential(unit(), unit())
        self.down = nn.ModuleList(unit() for _ in range(levels))
        self.bottom = unit()
        # Largest map first, in the order of `down`.
        self.beside = nn.ModuleList(unit() for _ in range(levels - 1))
        self.up = nn.ModuleList(unit() for _ in range(levels - 1))
        self.score = nn.Sequential(*norm_conv(), *norm_conv())
        self.after = unit()

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.before(x)
        return x, self.trunk(x)

    def attention(self, z: tuple[Tensor, Tensor]) -> Tensor:
        x, trunk = z
        encoded = []
        y = x
        for unit in self.down:
            y = _max_pool(y, self.ceil_mode)
            y = unit(y)
            encoded.append(y)
        y = self.bottom(encoded.pop())
        for unit, beside in zip(reversed(self.up), reversed(self.beside), strict=True):
            larger = encoded.pop()
            y = grid.upsample_like(y, larger) + beside(larger)
            y = unit(y + larger if self.skip_connections else y)
        y = grid.upsample_like(y, x)
        return self.score(y + trunk if self.skip_connections else y).sigmoid()

    def combine(self, a: Tensor, z: tuple[Tensor, Tensor]) -> Tensor:
        _, trunk = z
        return self.after(trunk + a * trunk)


class ResidualAttentionNetwork(nn.Module):
    """Classifies an image by three stages of attention modules, each after a residual unit.

    Table 2 of the paper, there for images of 224 x 224; any size can be used.

    Args:
        modules: Attention modules of each stage: (1, 1, 1) is the network of 56 layers, (1, 2, 3)
            the one of 92.
        num_classes: Number of classes.
        in_channels: Channels of an image.
        stem_channels: Channels after the first convolution; the stages have 4, 8 and 16 times as
            many, the last units 32 times.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, logits ``b k``.

    >>> ResidualAttentionNetwork(num_classes=10, stem_channels=8)(torch.randn(2, 3, 65, 48)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in ResidualAttentionNetwork(device="meta").parameters())
    31810728
    """

    def __init__(
        self,
        modules: Sequence[int] = (1, 1, 1),
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        stem_channels: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes, in_channels=in_channels, stem_channels=stem_channels)
        if isinstance(modules, int) or len(modules) != 3:
            raise ValueError(f"modules must be three numbers, one for each stage, got {modules!r}")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stem = conv_norm(
            in_channels, stem_channels, 7, stride=2, activation=nn.ReLU(), **factory
        )
        stages = []
        before = stem_channels
        for i, number in enumerate(modules):
            positive(modules=number)
            channels = stem_channels * 4 * 2**i
            unit = _Unit(before, channels, channels // 4, stride=2 if i else 1, **factory)
            attentions = (
                ResidualAttentionModule(channels, levels=3 - i, **factory) for _ in range(number)
            )
            stages.append(nn.Sequential(unit, *attentions))
            before = channels
        self.stages = nn.Sequential(*stages)
        channels, hidden_dim = 2 * before, before // 2
        self.last = nn.Sequential(
            _Unit(before, channels, hidden_dim, stride=2, **factory),
            _Unit(channels, channels, hidden_dim, **factory),
            _Unit(channels, channels, hidden_dim, **factory),
            nn.BatchNorm2d(channels, **factory),
            nn.ReLU(),
        )
        self.classify = nn.Linear(channels, num_classes, **factory)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features before global pooling, at 1/32 of the image's height and width."""
        return self.last(self.stages(_max_pool(self.stem(x), True)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of the classes."""
        return self.classify(grid.mean(self.forward_features(x)))


class _Unit(nn.Module):
    """A pre-activation residual bottleneck."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_dim: int,
        *,
        stride: int = 1,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, **factory)
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, hidden_dim, 1, bias=False, **factory),
            nn.BatchNorm2d(hidden_dim, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, hidden_dim, 3, stride, 1, bias=False, **factory),
            nn.BatchNorm2d(hidden_dim, **factory),
            nn.ReLU(),
            nn.Conv2d(hidden_dim, out_channels, 1, bias=False, **factory),
        )
        self.same = in_channels == out_channels and stride == 1
        if not self.same:
            self.project = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(x).relu()
        return (x if self.same else self.project(z)) + self.branch(z)


@leaf
def _max_pool(x: Tensor, ceil_mode: bool) -> Tensor:
    """Pool windows of 3 x 3 at stride 2."""
    if not ceil_mode:
        return max_pool2d(x, 3, 2, 1)
    h, w = x.shape[2:]
    if h == 1 or w == 1:  # torch has no output for it: pad one row or column
        x = pad(x, (0, int(w == 1), 0, int(h == 1)), value=-torch.inf)
    return max_pool2d(x, 3, 2, ceil_mode=True)
