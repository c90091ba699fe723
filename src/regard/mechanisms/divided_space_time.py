"""Divided space-time attention: over time at each position, then over space in each frame."""

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

# x, its patches as b p t c, and the class token as b 1 c
Prepared = tuple[Tensor, Tensor, Tensor | None]


class DividedSpaceTime(Attention):
    r"""Applies attention over the frames at each position, then over the positions of each frame.

    .. math::
        z = x + W_t\,\mathrm{MSA}_{time}(\mathrm{LN}(x)), \quad
        z' = z + \mathrm{MSA}_{space}(\mathrm{LN}(z)), \quad
        y = z' + \mathrm{MLP}(\mathrm{LN}(z'))

    where MSA is multi-head attention with a softmax over the :math:`T` frames at one position, or
    over the :math:`P` positions of one frame, and MLP two layers with a GELU between them: the
    block "T+S" of section 3 and figure 2 of the paper. A position attends to :math:`T + P`
    positions instead of :math:`TP`.

    With ``num_frames``, the input is a sequence of tokens after a class token, as in TimeSformer.
    The class token is left out of the attention over time; it is part of every frame in the
    attention over space, and its outputs there are averaged.

    Args:
        channels: Channels of a position, or a token.
        num_heads: Heads of both attentions.
        hidden_dim: Channels between the two layers of the MLP; four times ``channels`` by default.
        num_frames: :math:`T`, for an input of tokens; by default the input is a video.
        qkv_bias: Give the projections of queries, keys and values biases.
        temporal_fc: Use the linear layer :math:`W_t` after the attention over time.
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
            "The paper has no layer after the projection of the attention over time "
            "(temporal_fc=False); the authors' code has one that starts at zero.",
            "The authors drop whole branches at random in training; here nothing is dropped.",
            "The authors' block adds 1e-5 to a variance by default, but 1e-6 in their models, as "
            "here.",
            "The authors' block takes the number of frames in its forward method; here the "
            "constructor does, and load_reference takes it as T.",
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
        """Draw new parameters; the layer after the attention over time starts at zero."""
        super().reset_parameters()
        for parameter in self.temporal_fc.parameters():
            nn.init.zeros_(parameter)

    def check(self, *inputs: Any) -> None:
        """Check the axes, and that the tokens divide into the frames."""
        super().check(*inputs)
        (x,) = inputs
        if self.num_frames is None or isinstance(x, torch.fx.Proxy):
            return
        if (x.shape[1] - 1) % self.num_frames:
            raise ValueError(
                f"{type(self).__name__}: expected 1 + a multiple of {self.num_frames} on axis n of "
                f"({self.axes.input}), got {x.shape[1]}: {tuple(x.shape)}"
            )

    def prepare(self, x: Tensor) -> Prepared:
        if self.num_frames is None:
            return x, x.flatten(3).permute(0, 3, 2, 1), None  # b p t c
        return x, x[:, 1:].unflatten(1, (-1, self.num_frames)), x[:, :1]

    def attention(self, z: Prepared) -> tuple[Tensor, Tensor]:
        _, patches, cls = z
        q, k, v = self.time(patches)
        a_time = pairwise.attention_weights(q, k, scale=self.time.scale)
        q, k, _ = self.space(self.by_frames(self.after_time(a_time @ v, patches), cls))
        return a_time, pairwise.attention_weights(q, k, scale=self.space.scale)

    def combine(self, a: tuple[Tensor, Tensor], z: Prepared) -> Tensor:
        x, patches, cls = z
        a_time, a_space = a
        _, _, v = self.time(patches)
        patches = self.after_time(a_time @ v, patches)
        _, _, v = self.space(self.by_frames(patches, cls))
        return self.after_space(a_space @ v, x, patches, cls)

    def fused(self, z: Prepared) -> Tensor:
        x, patches, cls = z
        patches = self.after_time(self.time.fused(patches), patches)
        y = self.space.fused(self.by_frames(patches, cls))
        return self.after_space(y, x, patches, cls)

    def after_time(self, y: Tensor, patches: Tensor) -> Tensor:
        """Add the attention over time."""
        return patches + self.temporal_fc(self.time.project(y))

    def by_frames(self, patches: Tensor, cls: Tensor | None) -> Tensor:
        """Return the tokens of each frame, ``b t p c``, the class token first."""
        patches = patches.transpose(1, 2)
        if cls is None:
            return patches
        return torch.cat([cls.unsqueeze(1).expand(-1, patches.shape[1], -1, -1), patches], 2)

    def after_space(self, y: Tensor, x: Tensor, patches: Tensor, cls: Tensor | None) -> Tensor:
        """Add the attention over space, then the MLP, and return to the axes of x."""
        y = self.space.project(y).transpose(1, 2)  # b p t c
        if cls is None:
            patches = patches + y
            patches = patches + self.mlp(self.norm(patches))
            return patches.permute(0, 3, 2, 1).unflatten(3, x.shape[3:])
        cls = cls + y[:, 0].mean(1, keepdim=True)
        tokens = torch.cat([cls, (patches + y[:, 1:]).flatten(1, 2)], 1)
        return tokens + self.mlp(self.norm(tokens))


class _Heads(nn.Module):
    """A norm and the layers of multi-head attention along the third of four axes."""

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
        """Return queries, keys and values, ``b g heads n d`` each, of ``b g n c``."""
        x = self.qkv(self.norm(x)).unflatten(3, (3, self.num_heads, -1))
        x = x.permute(3, 0, 1, 4, 2, 5)
        return x[0], x[1], x[2]

    def fused(self, x: Tensor) -> Tensor:
        """Return the weighted sum of the values without building the map."""
        q, k, v = (t.flatten(0, 1) for t in self(x))
        return pairwise.scaled_dot_product(q, k, v, scale=self.scale).unflatten(0, x.shape[:2])

    def project(self, y: Tensor) -> Tensor:
        """Merge the heads and project them, ``b g n c``."""
        return self.out(y.transpose(2, 3).flatten(3))
