"""The Transformer for translation, from tokens to scores of tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.check import divides, positive
from ..mechanisms.transformer import Transformer


class Translator(nn.Module):
    r"""A `Transformer` with an embedding layer and an output layer that share one matrix.

    .. math::
        z_i = \sqrt d\, E_{x_i} + p_i, \quad p_{i,2k} = \sin(i\, 10000^{-2k/d}), \quad
        p_{i,2k+1} = \cos(i\, 10000^{-2k/d})

    Sections 3.4 and 3.5 of the paper.

    Args:
        num_classes: Size of the vocabulary, which source and target share.
        embed_dim: :math:`d`, even.
        dropout: Dropout rate of the embeddings and in `Transformer`.
        device: Where to put the parameters.
        dtype: Their type.
        options: Other arguments of `Transformer`.

    Shape:
        source ``b n`` and target ``b m``, of integers; the scores ``b m k``.

    Raises:
        ValueError: a size is not positive or ``embed_dim`` is odd.

    >>> model = Translator(50, embed_dim=16, num_heads=2, num_encoder_layers=1)
    >>> model(torch.randint(50, (2, 7)), torch.randint(50, (2, 5))).shape
    torch.Size([2, 5, 50])
    """

    def __init__(
        self,
        num_classes: int = 37000,
        embed_dim: int = 512,
        *,
        dropout: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        positive(num_classes=num_classes)
        divides(embed_dim=embed_dim, sine_and_cosine=2)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_classes = num_classes
        self.embedding = nn.Embedding(num_classes, embed_dim, **factory)
        self.drop = nn.Dropout(dropout)
        self.transformer = Transformer(embed_dim, dropout=dropout, **options, **factory)
        nn.init.normal_(self.embedding.weight, std=embed_dim**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embeddings of tokens plus the encodings of their positions, ``b n d``."""
        width = self.embedding.embedding_dim
        x = self.embedding(tokens) * math.sqrt(width)
        position = torch.arange(tokens.shape[1], device=x.device, dtype=torch.float32)
        exponent = torch.arange(0, width, 2, device=x.device) * (-math.log(10000) / width)
        angle = position[:, None] * exponent.exp()
        encoding = torch.stack([angle.sin(), angle.cos()], 2).flatten(1)  # n d
        return self.drop(x + encoding.to(x.dtype))

    def forward_features(self, source: Tensor, target: Tensor) -> Tensor:
        """Return the output of the decoder at each position of the target, ``b m d``."""
        return self.transformer(self.embed(source), self.embed(target))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Score each token at each position of the target."""
        return self.forward_features(source, target) @ self.embedding.weight.transpose(0, 1)
