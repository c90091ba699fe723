"""Bi-level routing attention: each region attends to the few regions that resemble it most."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise, precision, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import divides, odd, one_of, positive
from ..core.tracing import at_least, leaf

# x; q, k, v: b g heads n d each, k and v of the chosen regions; the convolved values b c h w
Prepared = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class BilevelRouting(Attention):
    r"""Chooses regions by the similarity of their means, and attends to their positions.

    .. math::
        y = W_o \big([a_1 V_1; \dots; a_H V_H] + \operatorname{DWConv}(V)\big), \quad
        a_h = \operatorname{softmax}\big(s\, Q_h K_h^\top\big), \quad
        I = \operatorname{topk}\big(\bar Q \bar K^\top\big)

    where the queries of a region see the keys and values of the regions in its row of I, and
    :math:`\bar Q, \bar K` are the means of each of :math:`S \times S` regions; equations 3 to 8 of
    the paper. No gradient passes the choice, unless it is softened. The padding is
    attended to as well.

    In half precision, rounding can change which regions are chosen, and which entry the softmax
    selects where scores are in the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`.
        regions: :math:`S`, regions along each axis.
        topk: Regions that each region attends to.
        qk_dim: Channels of the queries and keys of all heads; ``channels`` by default.
        scale: :math:`s`; the root of ``qk_dim``, inverted, by default.
        kernel_size: Side of the convolution of the values, odd; None for none.
        padding: Pad the ``input`` to S regions of equal size, or the ``projections`` to regions of
            the size of the image divided by S, of which there can be more.
        routing: Compare the means ``detached`` from their gradient, in a ``differentiable`` way, or
            ``projected`` by a layer first; the last two with ``soft_routing`` only.
        soft_routing: Multiply the chosen keys and values by the softmax of the similarities.
        out_proj: Have :math:`W_o`.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, map ``b g heads q k`` for g regions row by row, q queries in each, and k
        keys, those of the most similar region first, y as x.

    Raises:
        ValueError: a size is not positive, ``num_heads`` does not divide the channels of keys or
            values, there are fewer regions than ``topk``, the kernel is even, ``padding`` or
            ``routing`` is unknown, or the routing has a gradient but is not soft.

    >>> BilevelRouting(64)(torch.randn(2, 64, 14, 21)).shape
    torch.Size([2, 64, 14, 21])
    """

    card = Card(
        title="Bi-level routing attention",
        paper="BiFormer: Vision Transformer with Bi-Level Routing Attention",
        authors="Lei Zhu, Xinjiang Wang, Zhanghan Ke, Wayne Zhang, Rynson Lau",
        venue="CVPR",
        year=2023,
        url="https://arxiv.org/abs/2303.08810",
        code="https://github.com/rayleizhu/BiFormer",
        license="MIT",
        domain="spatial",
        computes="fc+matmul",
        applies="select+matmul",
        kind="relation",
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("bra", "biformer", "bi_level_routing_attention", "bilevelroutingattention"),
        differs=(
            "The paper divides the scores by the root of a head's channels; the authors' code, and "
            "the default here, by that of all heads' (scale=(channels / num_heads)**-0.5).",
            "Images that the regions do not divide are always padded; the authors' class asks for "
            "auto_pad.",
        ),
    )
    axes = Axes("b c h w", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        regions: int = 7,
        topk: int = 4,
        qk_dim: int | None = None,
        scale: float | None = None,
        kernel_size: int | None = 5,
        padding: Literal["input", "projections"] = "input",
        routing: Literal["detached", "differentiable", "projected"] = "detached",
        soft_routing: bool = False,
        out_proj: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        divides(channels=channels, num_heads=num_heads)
        super().__init__(c=channels, heads=num_heads)
        qk_dim = channels if qk_dim is None else qk_dim
        divides(qk_dim=qk_dim, num_heads=num_heads)
        positive(regions=regions, topk=topk)
        one_of(("input", "projections"), padding=padding)
        if topk > regions**2:
            raise ValueError(f"topk must be at most regions**2 ({regions**2}), got {topk}")
        if kernel_size is not None:
            odd(kernel_size=kernel_size)
        one_of(("detached", "differentiable", "projected"), routing=routing)
        if routing != "detached" and not soft_routing:
            raise ValueError(f"routing must be 'detached' without soft_routing, got {routing!r}")
        self.num_heads, self.regions, self.topk = num_heads, regions, topk
        self.pad_input, self.soft = padding == "input", soft_routing
        self.detached = routing == "detached"
        self.scale = qk_dim**-0.5 if scale is None else scale
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.sizes = [qk_dim, qk_dim, channels]
        self.qkv = nn.Conv2d(channels, sum(self.sizes), 1, **factory)
        self.route = nn.Linear(qk_dim, qk_dim, **factory) if routing == "projected" else None
        self.local = None
        if kernel_size is not None:
            self.local = nn.Conv2d(
                channels,
                channels,
                kernel_size,
                padding=kernel_size // 2,
                groups=channels,
                **factory,
            )
        self.out = nn.Linear(channels, channels, **factory) if out_proj else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections with a small spread; zero their biases."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if not name.startswith("local"):
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                else:
                    nn.init.trunc_normal_(parameter, std=0.02)

    def prepare(self, x: Tensor) -> Prepared:
        source = windows.filled(x, (self.regions, self.regions)) if self.pad_input else x
        q, k, v = self.qkv(source).split(self.sizes, 1)
        local = v if self.local is None else self.local(v)
        means = [_means(t, self.regions, self.pad_input) for t in (q, k)]
        q, k, v = (_regions(t, self.regions, self.pad_input) for t in (q, k, v))
        k, v = self.routed(means[0], means[1], k, v)
        heads = (t.unflatten(3, (self.num_heads, -1)).transpose(2, 3) for t in (q, k, v))
        q, k, v = heads
        return x, q, k, v, local

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        *_, v, _ = z
        return self.join(a @ v, z)

    def fused(self, z: Prepared) -> Tensor:
        _, q, k, v, _ = z
        y = pairwise.scaled_dot_product(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), scale=self.scale
        )
        return self.join(y.unflatten(0, q.shape[:2]), z)

    def routed(self, q: Tensor, k: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values ``b g (k n) c`` of the regions that each region chooses."""
        if self.detached:
            q, k = q.detach(), k.detach()
        elif self.route is not None:
            q, k = self.route(q), self.route(k)
        weights, chosen = _best(q * self.scale, k, self.topk)
        weight = weights if self.soft else None
        return _chosen(keys, chosen, weight), _chosen(values, chosen, weight)

    def join(self, y: Tensor, z: Prepared) -> Tensor:
        """Put the regions together, add the convolved values, and project."""
        x, *_, local = z
        y = _merged(y, x, self.regions, self.pad_input)
        if self.local is not None:
            y = y + _cropped(local, x)
        return tokens.to_grid(self.out(tokens.to_tokens(y)), x)


@leaf
def _size(x: Tensor, regions: int) -> list[Any]:
    """Return the size of a region that is a part of an image."""
    return [at_least(n // regions, 1) for n in x.shape[2:]]


@leaf
def _regions(t: Tensor, regions: int, whole: bool) -> Tensor:
    """Divide a grid into regions ``b g n c``."""
    if not whole:
        return windows.partition(t, _size(t, regions))
    t = t.unflatten(3, (regions, -1)).unflatten(2, (regions, -1))  # b c rows h columns w
    return t.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


@leaf
def _means(t: Tensor, regions: int, whole: bool) -> Tensor:
    """Return the mean of each region ``b g c``, without the padding of projections."""
    if whole:
        return _regions(t, regions, True).mean(2)
    size = _size(t, regions)
    real = windows.inside(t, size).unsqueeze(-1)  # g n 1
    return windows.partition(t, size).sum(2) / real.sum(1).to(t.dtype)


@leaf
def _best(q: Tensor, k: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Return the most similar regions of each, and the softmax of their similarities, ``b g k``."""
    scores = precision.matmul(q, k.transpose(-2, -1))
    best, chosen = scores.topk(min(topk, scores.shape[-1]), -1)
    return precision.softmax(best, -1, q.dtype), chosen


@leaf
def _chosen(t: Tensor, chosen: Tensor, weights: Tensor | None) -> Tensor:
    """Return the positions ``b g (k n) c`` of the chosen regions."""
    image = torch.arange(t.shape[0], device=t.device)[:, None, None]
    y = t[image, chosen]  # b g k n c
    return (y if weights is None else y * weights[..., None, None]).flatten(2, 3)


@leaf
def _merged(y: Tensor, x: Tensor, regions: int, whole: bool) -> Tensor:
    """Put regions ``b g heads n d`` together to a grid as large as x."""
    y = y.transpose(2, 3).flatten(3)  # b g n c
    if not whole:
        return windows.merge(y, x, _size(x, regions))
    rows = (x.shape[2] + regions - 1) // regions
    y = y.unflatten(2, (rows, -1)).unflatten(1, (regions, -1))
    y = y.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
    return _cropped(y, x)


@leaf
def _cropped(y: Tensor, x: Tensor) -> Tensor:
    return tokens.first(tokens.first(y, 2, x.shape[2]), 3, x.shape[3])
