"""Divided space-time attention: over the frames of each position, then over each frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides, positive


class DividedSpaceTime(Attention):
    r"""Lets each position read its own past and future, then each frame read itself.

    .. math::
        z = x + W_t\,\mathrm{MSA}_{time}(\mathrm{LN}(x)), \quad
        z' = z + \mathrm{MSA}_{space}(\mathrm{LN}(z)), \quad
        y = z' + \mathrm{MLP}(\mathrm{LN}(z'))

    where MSA is multi-head attention with a softmax over the :math:`T` frames at one position, or
    over the :math:`P` positions of one frame, and MLP two layers with a GELU between them: the
    block "T+S" of section 3 and figure 2 of the paper. A position reads :math:`T + P` others, and
    not :math:`TP`.

    Given ``num_frames``, it reads tokens with a class token before them, as TimeSformer does. That
    one takes no part in the attention over time; it stands in every frame of the attention over
    space, and gets the average of what it reads there.

    Args:
        channels: Channels of a position, or a token.
        num_heads: Heads of both attentions.
        hidden_dim: Channels between the two layers of the MLP; four times ``channels`` by default.
        num_frames: :math:`T` of an input of tokens; by default it is a video.
        qkv_bias: Give queries, keys and values biases.
        temporal_fc: Put the linear layer :math:`W_t` behind the attention over time.
        eps: Added to the variance in each norm.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c t h w``, the maps ``b p heads t t`` over time, for the p positions of a frame, and
        ``b t heads p p`` over space, y as x. With ``num_frames``, x is ``b n c``: a class token,
        then the frames of the first position, those of the second, and so on.

    Raises:
        ValueError: a size is not positive, or the heads do not divide the channels.

    >>> DividedSpaceTime(64)(torch.randn(2, 64, 4, 9, 7)).shape
    torch.Size([2, 64, 4, 9, 7])
    >>> DividedSpaceTime(64, num_frames=4)(torch.randn(2, 1 + 4 * 9 * 7, 64)).shape
    torch.Size([2, 253, 64])
    """

    card = Card(
        title="Divided space-time attention",
        paper="Is Space-Time Attention All You Need for Video Understanding?",
        authors="Gedas Bertasius, Heng Wang, Lorenzo Torresani",
        venue="ICML",
        year=2021,
        url="https://arxiv.org/abs/2102.05095",
        code="https://github.com/facebookresearch/TimeSformer",
        license="CC-BY-NC-4.0",
        domain="spatial+temporal",
        computes="fc+matmul",
        applies="matmul",
        kind="relation",
        equivariant=("frames",),
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("timesformer", "divided_attention", "divided_space_time_attention"),
        differs=(
            "The paper's equation for the attention over time has the class token among the keys; "
            "the authors' code, and this file, leaves it out.",
            "The paper has no layer behind the projection of the attention over time "
            "(temporal_fc=False); the authors' code has one that starts at zero.",
            "The authors drop whole branches at random in training; here nothing is dropped.",
            "The authors' block alone adds 1e-5 to a variance, and 1e-6 in their models, as here.",
            "The authors' block is told the number of frames when it is called; here it is an "
            "argument, and for loading their weights one of theirs: T.",
        ),
    )
    axes = Axes("b c t h w", "time: b p heads t t, space: b t heads p p", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        hidden_dim: int | None = None,
        num_frames: int | None = None,
        qkv_bias: bool = True,
        temporal_fc: bool = True,
        eps: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels, heads=num_heads)
        divides(channels=channels, num_heads=num_heads)
        hidden_dim = 4 * channels if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        above_zero(eps=eps)
        self.num_frames = num_frames
        if num_frames is not None:
            positive(num_frames=num_frames)
            self.axes = replace(
                self.axes,
                input="b n c",
                map="time: b p heads t t, space: b t heads m m",
                output="b n c",
            )
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.time = _Heads(channels, num_heads, qkv_bias, eps, **factory)
        self.temporal_fc = (
            nn.Linear(channels, channels, **factory) if temporal_fc else nn.Identity()
        )
        self.space = _Heads(channels, num_heads, qkv_bias, eps, **factory)
        self.norm = nn.LayerNorm(channels, eps, **factory)
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden_dim, **factory),
            nn.GELU(),
            nn.Linear(hidden_dim, channels, **factory),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the layer behind the attention over time starts at zero."""
        super().reset_parameters()
        for parameter in self.temporal_fc.parameters():
            nn.init.zeros_(parameter)

    def check(self, *inputs: Any) -> None:
        """Refuse inputs that cannot be meant, and tokens that are no whole number of frames."""
        super().check(*inputs)
        (x,) = inputs
        if self.num_frames is None or isinstance(x, torch.fx.Proxy):
            return
        if (x.shape[1] - 1) % self.num_frames:
            raise ValueError(
                f"{type(self).__name__}: expected 1 + a multiple of {self.num_frames} on axis n of "
                f"({self.axes.input}), got {x.shape[1]}: {tuple(x.shape)}"
            )

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.num_frames is None:
            return x, x.flatten(3).permute(0, 3, 2, 1), None  # b p t c
        return x, x[:, 1:].unflatten(1, (-1, self.num_frames)), x[:, :1]

    def attention(self, x: tuple[Tensor, Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
        _, z, token = x
        q, k, v = self.time(z)
        a = pairwise.attention_weights(q, k, scale=self.time.scale)
        q, k, _ = self.space(self.by_frames(self.after_time(a @ v, z), token))
        return a, pairwise.attention_weights(q, k, scale=self.space.scale)

    def combine(self, a: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        x, z, token = x
        z = self.after_time(a[0] @ self.time(z)[2], z)
        y = a[1] @ self.space(self.by_frames(z, token))[2]
        return self.after_space(y, x, z, token)

    def fused(self, x: tuple[Tensor, Tensor, Tensor | None]) -> Tensor:
        x, z, token = x
        z = self.after_time(self.time.read(z), z)
        return self.after_space(self.space.read(self.by_frames(z, token)), x, z, token)

    def after_time(self, y: Tensor, z: Tensor) -> Tensor:
        return z + self.temporal_fc(self.time.join(y))

    def by_frames(self, z: Tensor, token: Tensor | None) -> Tensor:
        z = z.transpose(1, 2)  # b t p c
        if token is None:
            return z
        return torch.cat([token.unsqueeze(1).expand(-1, z.shape[1], -1, -1), z], 2)

    def after_space(self, y: Tensor, x: Tensor, z: Tensor, token: Tensor | None) -> Tensor:
        y = self.space.join(y).transpose(1, 2)  # b p t c
        if token is None:
            z = z + y
            z = z + self.mlp(self.norm(z))
            return z.permute(0, 3, 2, 1).unflatten(3, x.shape[3:])
        z = torch.cat([token + y[:, 0].mean(1, keepdim=True), (z + y[:, 1:]).flatten(1, 2)], 1)
        return z + self.mlp(self.norm(z))


class _Heads(nn.Module):
    """The layers of a multi-head attention along the third of four axes, behind a norm."""

    def __init__(
        self, channels: int, num_heads: int, bias: bool, eps: float, **factory: Any
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.norm = nn.LayerNorm(channels, eps, **factory)
        self.qkv = nn.Linear(channels, 3 * channels, bias, **factory)
        self.out = nn.Linear(channels, channels, **factory)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``b g heads n d`` each, of ``b g n c``."""
        x = self.qkv(self.norm(x)).unflatten(3, (3, self.num_heads, -1))
        x = x.permute(3, 0, 1, 4, 2, 5)
        return x[0], x[1], x[2]

    def read(self, x: Tensor) -> Tensor:
        """What the queries read, without the map."""
        q, k, v = (t.flatten(0, 1) for t in self(x))
        return pairwise.scaled_dot_product(q, k, v, scale=self.scale).unflatten(0, x.shape[:2])

    def join(self, y: Tensor) -> Tensor:
        """``b g n c`` of what the heads have read."""
        return self.out(y.transpose(2, 3).flatten(3))
