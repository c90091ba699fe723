"""What both versions of MobileViT share: images as sequences of patches, and the layer on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..core.tracing import leaf, recording


class Layer(nn.Module):
    """Attention and a feed-forward network, each after a norm and with a residual connection.

    Args:
        attention: The attention module.
        norms: The norm before the attention and the one before the feed-forward network.
        embed_dim: Channels of a token.
        hidden_dim: Hidden channels of the feed-forward network.
        dropout: Dropout rate before each addition.
        hidden_dropout: Dropout rate of the hidden channels.
        factory: Device and type of the parameters.
    """

    def __init__(
        self,
        attention: nn.Module,
        norms: tuple[nn.Module, nn.Module],
        embed_dim: int,
        hidden_dim: int,
        dropout: float,
        hidden_dropout: float,
        **factory: Any,
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_norm = norms
        self.attention = attention
        self.feed = nn.Sequential(
            nn.Linear(embed_dim, hidden_dim, **factory),
            nn.SiLU(),
            nn.Dropout(hidden_dropout),
            nn.Linear(hidden_dim, embed_dim, **factory),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attention(self.attention_norm(x)))
        return x + self.drop(self.feed(self.feed_norm(x)))


@leaf
def stretch(x: Tensor, patch: Sequence[int], *, align_corners: bool = False) -> Tensor:
    """Upsample an image to the next height and width that are multiples of the patch."""
    size = tuple(n * side for n, side in zip(patches(x, patch), patch, strict=True))
    # A compiled model serves every size, so it must not branch on one.
    if not recording() and size == tuple(x.shape[2:]):
        return x
    return interpolate(x, size, mode="bilinear", align_corners=align_corners)


@leaf
def unfold(x: Tensor, patch: Sequence[int]) -> Tensor:
    """Return one sequence of patches for each position inside a patch, ``(b p) n d``."""
    x = x.unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0]))  # b d i p j q
    return x.permute(0, 3, 5, 2, 4, 1).flatten(3, 4).flatten(0, 2)


@leaf
def fold(z: Tensor, like: Tensor, patch: Sequence[int]) -> Tensor:
    """Undo `unfold`, for an image of the height and width of ``like``."""
    z = z.unflatten(0, (-1, *patch)).unflatten(3, patches(like, patch))  # b p q i j d
    return z.permute(0, 5, 3, 1, 4, 2).flatten(4).flatten(2, 3)


def patches(x: Tensor, patch: Sequence[int]) -> tuple[int, int]:
    """Return how many patches cover the height and the width, partial ones included."""
    h, w = x.shape[2:]
    # Not -(-h // p): an exported model rounds quotients toward zero.
    return (h + patch[0] - 1) // patch[0], (w + patch[1] - 1) // patch[1]
