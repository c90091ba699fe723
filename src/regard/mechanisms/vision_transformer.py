"""Vision Transformer: an image classifier that applies self-attention to patches of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.attention import Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, divides, one_of, per_axis, positive, probability
from ..core.tracing import at_least, leaf, recording
from .multi_head import MultiHead


class VisionTransformer(Mechanism):
    r"""Classifies an image by self-attention among its patches.

    .. math::
        z_0 = [x_{class};\, x^1 E;\, \dots;\, x^N E] + E_{pos}, \quad
        z'_l = z_{l-1} + \mathrm{MSA}(\mathrm{LN}(z_{l-1})), \quad
        z_l = z'_l + \mathrm{MLP}(\mathrm{LN}(z'_l)), \quad
        y = \mathrm{LN}(z_L^0)

    where :math:`x^i` is a flattened patch, MSA is `MultiHead` self-attention, and the MLP is two
    layers with a GELU between them; a linear layer maps y to the logits. Equations 1 to 4 of the
    paper. Each block has a tap: ``blocks.0.attention.tap`` and so on. For images of other sizes
    than ``image_size``, learned position embeddings are interpolated by cubic splines.

    Args:
        embed_dim: Channels of a token.
        depth: Number of blocks.
        num_heads: Heads of the attention in each block.
        image_size: Height and width that the position embeddings are learned for, or one number for
            both.
        patch_size: Height and width of a patch, or one number for both.
        in_channels: Channels of an image.
        num_classes: Number of classes; None returns the features.
        mlp_dim: Hidden dimension of the MLP; four times ``embed_dim`` by default.
        head_dim: Channels of a head; ``embed_dim / num_heads`` by default.
        global_pool: Pooling of the tokens: the ``class`` token, the ``mean`` of the patches, the
            mean of ``all`` tokens, or None to return all tokens.
        class_token: Put a learned class token before the patches.
        num_registers: Learned tokens between the class token and the patches, left out of the
            ``mean``.
        positions: Position embedding: ``learned``, or fixed ``sincos`` of row and column.
        class_position: Learn position embeddings for the class token and the registers too.
        patch_norm: Put a layer norm before and after the patch embedding.
        last_norm: Normalize the ``tokens`` before pooling, the ``pooled`` features, or neither.
        qkv_bias: Give queries, keys and values biases.
        out_bias: Give the output projection of the attention a bias.
        mlp_bias: Give both layers of the MLP biases.
        layer_scale: Initial value of a learned scale per channel on each residual branch; None for
            no scale.
        eps: Added to the variance in each norm.
        dropout: Dropout rate of the residual branches' outputs and of the MLP's hidden units.
        embed_dropout: Dropout rate of the embedded tokens; ``dropout`` by default.
        attention_dropout: Dropout rate of the attention weights.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, a multiple of the patch in size; logits ``b k`` or features ``b d``; without
        pooling, these of each token. The map of each block is ``b heads n m``.

    Raises:
        ValueError: a size is not positive, the patch does not divide the image or the heads the
            embedding dimension, a dropout is not a rate, an option is unknown, or ``global_pool``
            needs a class token that is disabled.

    >>> model = VisionTransformer(
    ...     64, depth=2, num_heads=4, image_size=32, patch_size=8, num_classes=10
    ... )
    >>> model(torch.randn(2, 3, 32, 32)).shape, model(torch.randn(2, 3, 48, 40)).shape
    (torch.Size([2, 10]), torch.Size([2, 10]))
    >>> model.forward_features(torch.randn(2, 3, 48, 40)).shape
    torch.Size([2, 31, 64])
    """

    card = Card(
        title="Vision Transformer",
        paper="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
        authors=(
            "Alexey Dosovitskiy, Lucas Beyer, Alexander Kolesnikov, Dirk Weissenborn, Xiaohua "
            "Zhai, Thomas Unterthiner, Mostafa Dehghani, Matthias Minderer, Georg Heigold, Sylvain "
            "Gelly, Jakob Uszkoreit, Neil Houlsby"
        ),
        venue="ICLR",
        year=2021,
        url="https://arxiv.org/abs/2010.11929",
        code="https://github.com/google-research/vision_transformer",
        license="Apache-2.0",
        domain="spatial",
        computes="fc+matmul",
        applies="matmul",
        kind="network",
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("vit", "simple_vit"),
        differs=(
            "The authors' JAX code uses the tanh approximation of GELU; here GELU is exact, as in "
            "timm and vit-pytorch.",
            "In pre-training the paper has a hidden layer with tanh before the logits; here, as "
            "in its fine-tuning, there is one linear layer.",
            "Average pooling has three published forms: the patches, normalized afterwards (timm: "
            "global_pool='mean', last_norm='pooled'); the patches, without a class token "
            "(vit-pytorch today: global_pool='mean', class_token=False); and all tokens, the "
            "class token included (vit-pytorch until 2022: global_pool='all', "
            "last_norm='pooled').",
            "The authors interpolate position embeddings linearly; here, as in timm, by cubic "
            "splines with antialiasing.",
        ),
        plug=False,
    )
    axes = Axes("b c h w", "b heads n m", output="b k", range="softmax")

    def __init__(
        self,
        embed_dim: int,
        depth: int = 12,
        num_heads: int = 12,
        *,
        image_size: int | Sequence[int] = 224,
        patch_size: int | Sequence[int] = 16,
        in_channels: int = 3,
        num_classes: int | None = 1000,
        mlp_dim: int | None = None,
        head_dim: int | None = None,
        global_pool: Literal["class", "mean", "all"] | None = "class",
        class_token: bool = True,
        num_registers: int | None = None,
        positions: Literal["learned", "sincos"] = "learned",
        class_position: bool = True,
        patch_norm: bool = False,
        last_norm: Literal["tokens", "pooled"] | None = "tokens",
        qkv_bias: bool = True,
        out_bias: bool = True,
        mlp_bias: bool = True,
        layer_scale: float | None = None,
        eps: float = 1e-6,
        dropout: float = 0.0,
        embed_dropout: float | None = None,
        attention_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        size = per_axis(2, 1, image_size=image_size)
        patch = per_axis(2, 1, patch_size=patch_size)
        for whole, part in zip(size, patch, strict=True):
            divides(image_size=whole, patch_size=part)
        super().__init__(c=in_channels)
        self.divisors = {"h": patch[0], "w": patch[1]}
        mlp_dim = 4 * embed_dim if mlp_dim is None else mlp_dim
        embed_dropout = dropout if embed_dropout is None else embed_dropout
        positive(embed_dim=embed_dim, depth=depth, in_channels=in_channels, mlp_dim=mlp_dim)
        for name, number in (("num_classes", num_classes), ("num_registers", num_registers)):
            if number is not None:
                positive(**{name: number})
        one_of(("class", "mean", "all", None), global_pool=global_pool)
        one_of(("learned", "sincos"), positions=positions)
        one_of(("tokens", "pooled", None), last_norm=last_norm)
        above_zero(eps=eps)
        probability(dropout=dropout, embed_dropout=embed_dropout)
        if global_pool == "class" and not class_token:
            raise ValueError("global_pool='class' needs a class token: class_token is False")
        if positions == "sincos":
            divides(embed_dim=embed_dim, waves=4)
        output = "b k" if num_classes else "b d"
        self.axes = replace(
            self.axes, output=output if global_pool else output.replace("b", "b tokens")
        )
        self.global_pool, self.patch_size, self.layer_scale = global_pool, patch, layer_scale
        self.grid = (size[0] // patch[0], size[1] // patch[1])
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        patch_dim = in_channels * patch[0] * patch[1]
        self.patch_norm = nn.LayerNorm(patch_dim, eps, **factory) if patch_norm else nn.Identity()
        self.patch = nn.Linear(patch_dim, embed_dim, **factory)
        self.embed_norm = nn.LayerNorm(embed_dim, eps, **factory) if patch_norm else nn.Identity()
        self.num_prefix_tokens = class_token + (num_registers or 0)
        self.class_token = nn.Parameter(torch.empty(embed_dim, **factory)) if class_token else None
        self.registers = self.position = None
        if num_registers:
            self.registers = nn.Parameter(torch.empty(num_registers, embed_dim, **factory))
        self.num_prefix_positions = 0
        if positions == "learned":
            self.num_prefix_positions = self.num_prefix_tokens if class_position else 0
            count = self.num_prefix_positions + self.grid[0] * self.grid[1]
            self.position = nn.Parameter(torch.empty(count, embed_dim, **factory))
        self.drop = nn.Dropout(embed_dropout)
        blocks = (
            _Block(
                MultiHead(
                    embed_dim,
                    num_heads,
                    head_dim=head_dim,
                    bias=qkv_bias,
                    out_bias=out_bias,
                    dropout=attention_dropout,
                    **factory,
                ),
                embed_dim,
                mlp_dim,
                mlp_bias=mlp_bias,
                layer_scale=layer_scale is not None,
                eps=eps,
                dropout=dropout,
                **factory,
            )
            for _ in range(depth)
        )
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.pooled_norm = (
            nn.LayerNorm(embed_dim, eps, **factory) if last_norm == norm else nn.Identity()
            for norm in ("tokens", "pooled")
        )
        self.head = nn.Linear(embed_dim, num_classes, **factory) if num_classes else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as the authors' code does: the class token and the logits start at zero."""
        super().reset_parameters()
        nn.init.kaiming_normal_(self.patch.weight, nonlinearity="linear")
        nn.init.zeros_(self.patch.bias)
        for parameter in (self.position, self.registers):
            if parameter is not None:
                nn.init.normal_(parameter, std=0.02)
        if self.class_token is not None:
            nn.init.zeros_(self.class_token)
        for block in self.blocks:
            for scale in (block.attention_scale, block.mlp_scale):
                if scale is not None:
                    nn.init.constant_(scale, self.layer_scale)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def embed(self, x: Tensor) -> Tensor:
        """Return the tokens before the first block, ``b n d``."""
        p, q = self.patch_size
        x = x.unflatten(2, (-1, p)).unflatten(4, (-1, q))  # b c i p j q
        x = self.patch_norm(x.permute(0, 2, 4, 1, 3, 5).flatten(3))  # b i j (c p q)
        x = self.embed_norm(self.patch(x))
        prefix = [] if self.class_token is None else [self.class_token[None]]
        if self.registers is not None:
            prefix.append(self.registers)
        if self.position is None:
            x = x + sincos(x)
        else:
            n = self.num_prefix_positions
            x = x + resample(self.position[n:], self.grid, x)
            if n:
                prefix = [torch.cat(prefix) + self.position[:n]]
        x = x.flatten(1, 2)
        if prefix:
            x = torch.cat([torch.cat(prefix).expand(x.shape[0], -1, -1), x], 1)
        return self.drop(x)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the tokens after the last block, ``b n d``: class token, registers, patches."""
        self.check(x)
        return self.norm(self.blocks(self.embed(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, or the features where there are no classes."""
        x = self.forward_features(x)
        if self.global_pool == "class":
            x = x[:, 0]
        elif self.global_pool == "mean":
            x = x[:, self.num_prefix_tokens :].mean(1)
        elif self.global_pool == "all":
            x = x.mean(1)
        return self.head(self.pooled_norm(x))


class _Block(nn.Module):
    """A pre-norm Transformer block: self-attention, then an MLP."""

    def __init__(
        self,
        attention: MultiHead,
        embed_dim: int,
        mlp_dim: int,
        *,
        mlp_bias: bool,
        layer_scale: bool,
        eps: float,
        dropout: float,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(embed_dim, eps, **factory)
        self.attention = attention
        self.attention_scale = self.mlp_scale = None
        if layer_scale:
            self.attention_scale = nn.Parameter(torch.empty(embed_dim, **factory))
            self.mlp_scale = nn.Parameter(torch.empty(embed_dim, **factory))
        self.mlp_norm = nn.LayerNorm(embed_dim, eps, **factory)
        self.expand = nn.Linear(embed_dim, mlp_dim, mlp_bias, **factory)
        self.gelu = nn.GELU()
        self.contract = nn.Linear(mlp_dim, embed_dim, mlp_bias, **factory)
        self.drop = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        for part in (self.attention_norm, self.attention, self.mlp_norm):
            part.reset_parameters()
        for layer in (self.expand, self.contract):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.attention(self.attention_norm(x)))
        x = x + (y if self.attention_scale is None else y * self.attention_scale)
        y = self.drop(self.gelu(self.expand(self.mlp_norm(x))))
        y = self.drop(self.contract(y))
        return x + (y if self.mlp_scale is None else y * self.mlp_scale)


@leaf
def resample(position: Tensor, grid: tuple[int, int], x: Tensor) -> Tensor:
    """Interpolate the position embeddings of a grid to the grid of ``x``, ``b i j d``.

    Equal to torch's antialiased bicubic interpolation; as two matrix products it is deterministic
    and exports at any size.
    """
    position = position.unflatten(0, grid)  # i j d
    # No shortcut when compiling: it would specialize the model to one size.
    if not recording() and tuple(x.shape[1:3]) == grid:
        return position
    source = position.to(torch.promote_types(position.dtype, torch.float32))
    rows = _cubic_weights(x.shape[1], grid[0], source)
    columns = _cubic_weights(x.shape[2], grid[1], source)
    resized_rows = (rows @ source.flatten(1)).unflatten(1, (grid[1], -1))
    return (columns @ resized_rows).to(position.dtype)


def _cubic_weights(new: int, old: int, like: Tensor) -> Tensor:
    """Return the weights ``new old`` of cubic interpolation between two numbers of points."""
    i = torch.arange(new, device=like.device)[:, None]
    j = torch.arange(old, device=like.device)
    steps = ((2 * j + 1) * new - (2 * i + 1) * old).abs().to(like.dtype)
    d = (steps / (2 * at_least(new, old))).clamp(max=2)
    near = (1.5 * d - 2.5) * d * d + 1  # Keys' kernel with a = -1/2
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    weights = torch.where(d < 1, near, far)
    return weights / weights.sum(1, keepdim=True)


@leaf
def sincos(x: Tensor) -> Tensor:
    """Return sines and cosines of column and row, at d/4 frequencies, for ``b h w d``."""
    _, h, w, d = x.shape
    dtype = torch.promote_types(x.dtype, torch.float32)
    steps = torch.arange(d // 4, device=x.device, dtype=dtype)
    frequencies = 10000 ** (-steps / max(d // 4 - 1, 1))
    row = torch.arange(h, device=x.device, dtype=dtype)[:, None] * frequencies
    column = torch.arange(w, device=x.device, dtype=dtype)[:, None] * frequencies
    row = torch.cat([row.sin(), row.cos()], 1)[:, None].expand(-1, w, -1)
    column = torch.cat([column.sin(), column.cos()], 1).expand(h, -1, -1)
    return torch.cat([column, row], 2).to(x.dtype)  # i j d
