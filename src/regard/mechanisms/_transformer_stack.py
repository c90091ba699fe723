"""The layer and the stack of layers that Transformer encoders and decoders share."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Mechanism
from ..core.check import above_zero, one_of, positive, probability
from ..core.tracing import leaf
from .multi_head import MultiHead

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
KeysValues = tuple[Tensor, Tensor]  # b heads m d each


@leaf
def without_padding(
    who: str, keys: Tensor, mask: Tensor | None, key_mask: Tensor | None
) -> Tensor | None:
    """Check ``key_mask`` (``b m``, True = no padding) and mask the padding keys as well."""
    if key_mask is None:
        return mask
    if key_mask.dtype != torch.bool:
        raise TypeError(f"{who}: expected bool (True = no padding), got {key_mask.dtype}")
    if key_mask.shape != keys.shape[:2]:
        raise ValueError(f"{who}: expected {tuple(keys.shape[:2])}, got {tuple(key_mask.shape)}")
    return pairwise.and_mask(mask, key_mask[:, None, None])


class TransformerLayer(nn.Module):
    """Self-attention, cross-attention to a memory if ``crossed``, and a feed-forward network.

    Each has a residual connection, with a norm after the sum or, if ``norm_first``, before it.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden_dim: int | None,
        *,
        activation: str,
        norm_first: bool,
        dropout: float,
        bias: bool,
        eps: float,
        crossed: bool,
        causal: bool,
        **factory: Any,
    ) -> None:
        super().__init__()
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        one_of(tuple(ACTIVATIONS), activation=activation)
        probability(dropout=dropout)
        above_zero(eps=eps)
        self.norm_first = norm_first

        def layer_norm() -> nn.LayerNorm:
            return nn.LayerNorm(embed_dim, eps, bias=bias, **factory)

        options = {"bias": bias, "dropout": dropout, **factory}
        self.self_norm = layer_norm()
        self.self_attention = MultiHead(embed_dim, num_heads, causal=causal, **options)
        if crossed:
            self.cross_norm = layer_norm()
            self.cross_attention = MultiHead(embed_dim, num_heads, **options)
        self.feed_norm = layer_norm()
        self.feed_forward = nn.Sequential(
            nn.Linear(embed_dim, hidden_dim, bias, **factory),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, embed_dim, bias, **factory),
        )
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Run the layer on all positions at once."""
        z = self.before(self.self_norm, x)
        x = self.add(self.self_norm, x, self.self_attention(z, mask=mask))
        if memory is not None:
            z = self.before(self.cross_norm, x)
            y = self.cross_attention(z, memory, mask=memory_mask)
            x = self.add(self.cross_norm, x, y)
        z = self.before(self.feed_norm, x)
        return self.add(self.feed_norm, x, self.feed_forward(z))

    def remember(self, memory: Tensor) -> KeysValues:
        """Return the keys and values of the memory."""
        attention = self.cross_attention
        return attention.divide(attention.key(memory)), attention.divide(attention.value(memory))

    def step(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: KeysValues,
        memory_mask: Tensor | None,
        past: KeysValues | None,
    ) -> tuple[Tensor, KeysValues]:
        """Run the layer on the next positions; also return the keys and values of all so far."""
        z = self.before(self.self_norm, x)
        q, k, v = self.self_attention.prepare(z, z, z)
        if past is not None:
            past_k, past_v = past
            k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        x = self.add(self.self_norm, x, self.self_attention.read((q, k, v), mask))
        attention = self.cross_attention
        q = attention.divide(attention.query(self.before(self.cross_norm, x)))
        x = self.add(self.cross_norm, x, attention.read((q, *memory), memory_mask))
        z = self.before(self.feed_norm, x)
        return self.add(self.feed_norm, x, self.feed_forward(z)), (k, v)

    def before(self, norm: nn.Module, x: Tensor) -> Tensor:
        """Return the input of a sublayer."""
        return norm(x) if self.norm_first else x

    def add(self, norm: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Add a sublayer's output y to its input x."""
        y = x + self.drop(y)
        return y if self.norm_first else norm(y)


class TransformerStack(Mechanism):
    """A stack of Transformer layers and a norm after the last: an encoder or a decoder."""

    crossed = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        num_layers: int = 6,
        hidden_dim: int | None = None,
        activation: Literal["relu", "gelu"] = "relu",
        norm_first: bool = False,
        final_norm: bool = True,
        causal: bool | None = None,
        dropout: float = 0.1,
        bias: bool = True,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim)
        positive(embed_dim=embed_dim, num_layers=num_layers)
        self.causal = self.crossed if causal is None else causal
        norms: dict[str, Any] = dict(eps=eps, bias=bias, device=device, dtype=dtype)
        self.layers = nn.ModuleList(
            TransformerLayer(
                embed_dim,
                num_heads,
                hidden_dim,
                activation=activation,
                norm_first=norm_first,
                dropout=dropout,
                crossed=self.crossed,
                causal=self.causal,
                **norms,
            )
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(embed_dim, **norms) if final_norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices by Glorot's rule and set biases to zero."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def readable(
        self, name: str, query: Tensor, key: Tensor, mask: Tensor | None, key_mask: Tensor | None
    ) -> Tensor | None:
        """Check both masks and return them as one."""
        layer: Any = self.layers[0]
        layer.self_attention.check_mask(query, key, mask)
        return without_padding(f"{type(self).__name__}: {name}_key_mask", key, mask, key_mask)
