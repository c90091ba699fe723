"""CBAM: a gate per channel, then a gate per position."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid
from ..core.attention import Attention, Tap
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, reduced
from ..core.reference import Source, only, rename

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean(2),
    "max": lambda x: grid.peak(x, 2),
    "l2": lambda x: torch.linalg.vector_norm(x, dim=2),
    "logsumexp": lambda x: x.logsumexp(2),
}


class CBAM(Attention):
    r"""Weighs each channel, then each position of the result.

    .. math::
        a^c = \sigma\big(\textstyle\sum_p W_2\,\delta(W_1\, p(x))\big), \quad
        a^s = \sigma\big(\mathrm{BN}(w * [\max_c x'; \tfrac1C\sum_c x'])\big), \quad
        x' = a^c \odot x, \quad y = a^s \odot x'

    where p runs over the average and the maximum of each channel, :math:`\delta` is ReLU and w a
    :math:`7 \times 7` kernel; equations 1 to 3 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the shared layers have :math:`\lfloor C/r \rfloor` hidden channels.
        kernel_size: Side of the spatial kernel, odd.
        pools: What the channel gate sees: some of ``mean``, ``max``, ``l2`` (square root of the sum
            of squares) and ``logsumexp``.
        hidden: The hidden channels themselves, instead of ``reduction``.
        bias: Give the channel gate's layers biases.
        spatial_bias: Give the spatial kernel a bias.
        norm: Normalise the spatial scores by a batch norm.
        planes: Order of the two planes that the spatial kernel reads: ``max-mean`` or ``mean-max``.
        spatial: Weigh the positions too; if not, the channels only.
        residual: Add x to the result, as some other libraries do.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b c h w`` (``b c 1 1`` without ``spatial``), y as x; the parts
        ``tap_channel`` ``b c 1 1`` and ``tap_spatial`` ``b 1 h w``.

    Raises:
        ValueError: a size is not positive, the kernel is even, the reduction leaves no hidden
            channel, or a pool or an order is unknown.

    >>> CBAM(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="CBAM",
        paper="CBAM: Convolutional Block Attention Module",
        authors=("Sanghyun Woo", "Jongchan Park", "Joon-Young Lee", "In So Kweon"),
        venue="ECCV",
        year=2018,
        url="https://arxiv.org/abs/1807.06521",
        code="https://github.com/Jongchan/attention-module",
        licence="MIT",
        domain="channel+spatial",
        computes="pool+fc+conv",
        applies="gate",
        kind="gate",
        train_differs=True,
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("cbam", "convolutional_block_attention"),
        differs=(
            "The authors' code, and the default here, normalises the spatial scores, reads the "
            "maximum before the mean and has biases in the shared layers; the paper's equations "
            "have none of it (norm=False, planes='mean-max', bias=False).",
        ),
        references={
            "Jongchan/attention-module": "channel: b c, spatial: b 1 h w",
            "timm:CbamModule": "channel: b c 1 1, spatial: b 1 h w",
            "xmu-xiaoma666/External-Attention-pytorch": "channel: b c 1 1, spatial: b 1 h w",
        },
        refuses={
            "timm:LightCbamModule": "it reads one average of both pools, and one of both planes"
        },
    )
    axes = Axes(
        "b c h w", "b c h w", parts=dict(channel="b c 1 1", spatial="b 1 h w"), range="unit"
    )

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        kernel_size: int = 7,
        pools: Sequence[str] = ("mean", "max"),
        hidden: int | None = None,
        bias: bool = True,
        spatial_bias: bool = False,
        norm: bool = True,
        planes: Literal["max-mean", "mean-max"] = "max-mean",
        spatial: bool = True,
        residual: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden = reduced(channels, reduction, hidden)
        odd(kernel_size=kernel_size)
        one_of(("max-mean", "mean-max"), planes=planes)
        if isinstance(pools, str) or not pools:
            raise ValueError(f"pools must be a sequence of names, got {pools!r}")
        for pool in pools:
            one_of(tuple(POOLS), pools=pool)
        self.pools = tuple(pools)
        self.planes = planes
        self.squeeze = nn.Linear(channels, hidden, bias, device, dtype)
        self.excite = nn.Linear(hidden, channels, bias, device, dtype)
        self.tap_channel = Tap()
        self.spatial = spatial
        self.residual = residual
        if not spatial:
            self.axes = replace(self.axes, map="b c 1 1", parts={"channel": "b c 1 1"})
            return
        factory = {"device": device, "dtype": dtype}
        how = {"padding": kernel_size // 2, "bias": spatial_bias}
        self.look = nn.Conv2d(2, 1, kernel_size, **how, **factory)
        self.norm = nn.BatchNorm2d(1, momentum=0.01, **factory) if norm else nn.Identity()
        self.tap_spatial = Tap()

    def channel_gate(self, x: Tensor) -> Tensor:
        z = torch.stack([POOLS[name](x.flatten(2)) for name in self.pools])  # p b c
        a = self.excite(self.squeeze(z).relu()).sum(0).sigmoid()
        return self.tap_channel(a[..., None, None])

    def spatial_gate(self, x: Tensor) -> Tensor:
        planes = [grid.peak(x, 1, keepdim=True), x.mean(1, keepdim=True)]
        z = torch.cat(planes if self.planes == "max-mean" else planes[::-1], 1)  # b 2 h w
        return self.tap_spatial(self.norm(self.look(z)).sigmoid())

    def attention(self, x: Tensor) -> Tensor:
        a = self.channel_gate(x)
        return a * self.spatial_gate(x * a) if self.spatial else a

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.add(x, x, a)

    def fused(self, x: Tensor) -> Tensor:
        if not self.spatial:
            return self.add(x, x, self.channel_gate(x))
        z = x * self.channel_gate(x)
        return self.add(x, z, self.spatial_gate(z))

    def add(self, x: Tensor, z: Tensor, a: Tensor) -> Tensor:
        return torch.addcmul(x, z, a) if self.residual else z * a

    @classmethod
    def translate(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[CBAM, Mapping[str, Tensor]]:
        if source.repo != "Jongchan/attention-module":
            return cls._from_others(source, kwargs, state)
        pools = {"avg": "mean", "max": "max", "lp": "l2", "lse": "logsumexp"}
        module = cls(
            kwargs["gate_channels"],
            kwargs.get("reduction_ratio", 16),
            pools=[pools[name] for name in kwargs.get("pool_types", ("avg", "max"))],
            spatial=not kwargs.get("no_spatial", False),
        )
        names = {
            "ChannelGate.mlp.1": "squeeze",
            "ChannelGate.mlp.3": "excite",
            "SpatialGate.spatial.conv": "look",
            "SpatialGate.spatial.bn": "norm",
        }
        return module, rename(state, names)

    @classmethod
    def _from_others(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[CBAM, Mapping[str, Tensor]]:
        only("CBAM", kwargs, act_layer="relu", gate_layer="sigmoid")
        timm = source.repo == "timm"
        names = {"ca.se.0": "squeeze", "ca.se.2": "excite", "sa.conv": "look"}
        names |= {"channel.fc1": "squeeze", "channel.fc2": "excite"}
        names |= {"spatial.conv.conv": "look", "spatial.conv.bn": "norm"}
        state = rename(state, names)
        hidden, channels = state["squeeze.weight"].shape[:2]
        module = cls(
            channels,
            kernel_size=state["look.weight"].shape[-1],
            hidden=hidden,
            bias="squeeze.bias" in state,
            spatial_bias="look.bias" in state,
            norm=timm,
            planes="mean-max" if timm else "max-mean",
            residual=not timm,
        )
        if isinstance(module.norm, nn.BatchNorm2d):
            module.norm.momentum = 0.1
        return module, state
