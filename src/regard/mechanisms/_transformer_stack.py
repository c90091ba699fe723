"""What the stacks of a Transformer are made of, and how torch's are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import pairwise
from ..core.attention import Mechanism
from ..core.check import above_zero, one_of, positive, probability
from ..core.reference import Source, unstack
from .multi_head import MultiHead

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}
KeysValues = tuple[Tensor, Tensor]  # b heads m d each


@torch.fx.wrap  # a traced model keeps it whole: it asks symbols for their sizes and types
def without_padding(
    who: str, keys: Tensor, mask: Tensor | None, valid: Tensor | None
) -> Tensor | None:
    """Close a mask for keys that are padding, of which ``valid`` is a checked ``b m``."""
    if valid is None:
        return mask
    if valid.dtype != torch.bool:
        raise TypeError(f"{who}: expected bool (True = no padding), got {valid.dtype}")
    if valid.shape != keys.shape[:2]:
        raise ValueError(f"{who}: expected {tuple(keys.shape[:2])}, got {tuple(valid.shape)}")
    return pairwise.narrowed(mask, valid[:, None, None])


class TransformerLayer(nn.Module):
    """Self-attention, attention to a memory if ``crossed``, and two linear layers.

    Each is added to what it reads, with a norm after the sum or before the reading.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int | None,
        *,
        activation: str,
        norm: str,
        dropout: float,
        bias: bool,
        eps: float,
        crossed: bool,
        causal: bool,
        **factory: Any,
    ) -> None:
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        positive(hidden=hidden)
        one_of(tuple(ACTIVATIONS), activation=activation)
        one_of(("after", "before"), norm=norm)
        probability(dropout=dropout)
        above_zero(eps=eps)
        self.first = norm == "before"

        def normalise() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps, bias=bias, **factory)

        self.self_norm = normalise()
        how = {"bias": bias, "dropout": dropout, **factory}
        self.self_attention = MultiHead(width, heads, causal=causal, **how)
        if crossed:
            self.cross_norm = normalise()
            self.cross_attention = MultiHead(width, heads, **how)
        self.feed_norm = normalise()
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden, bias, **factory),
            ACTIVATIONS[activation](),
            nn.Dropout(dropout),
            nn.Linear(hidden, width, bias, **factory),
        )
        self.drop = nn.Dropout(dropout)

    def before(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.first else x

    def add(self, norm: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        y = x + self.drop(y)
        return y if self.first else norm(y)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """Read all positions at once."""
        z = self.before(self.self_norm, x)
        x = self.add(self.self_norm, x, self.self_attention(z, mask=mask))
        if memory is not None:
            z = self.before(self.cross_norm, x)
            y = self.cross_attention(z, memory, mask=memory_mask)
            x = self.add(self.cross_norm, x, y)
        z = self.before(self.feed_norm, x)
        return self.add(self.feed_norm, x, self.feed_forward(z))

    def remember(self, memory: Tensor) -> KeysValues:
        """The keys and values of the memory."""
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
        """Read the next positions; give the keys and values of all so far, too."""
        z = self.before(self.self_norm, x)
        q, k, v = self.self_attention.prepare(z, z, z)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        x = self.add(self.self_norm, x, self.self_attention.read((q, k, v), mask))
        attention = self.cross_attention
        q = attention.divide(attention.query(self.before(self.cross_norm, x)))
        x = self.add(self.cross_norm, x, attention.read((q, *memory), memory_mask))
        z = self.before(self.feed_norm, x)
        return self.add(self.feed_norm, x, self.feed_forward(z)), (k, v)


class TransformerStack(Mechanism):
    """What encoder and decoder share: layers, and a norm behind the last."""

    crossed = False

    def __init__(
        self,
        width: int,
        heads: int = 8,
        *,
        layers: int = 6,
        hidden: int | None = None,
        activation: Literal["relu", "gelu"] = "relu",
        norm: Literal["after", "before"] = "after",
        final_norm: bool = True,
        causal: bool | None = None,
        dropout: float = 0.1,
        bias: bool = True,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=width)
        positive(width=width, layers=layers)
        self.causal = self.crossed if causal is None else causal
        norms: dict[str, Any] = dict(eps=eps, bias=bias, device=device, dtype=dtype)
        how: dict[str, Any] = dict(activation=activation, norm=norm, dropout=dropout, **norms)
        how |= dict(crossed=self.crossed, causal=self.causal)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, hidden, **how) for _ in range(layers)
        )
        self.final_norm = nn.LayerNorm(width, **norms) if final_norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw matrices by Glorot's rule, and put biases to zero."""
        super().reset_parameters()
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def readable(
        self, name: str, query: Tensor, key: Tensor, mask: Tensor | None, valid: Tensor | None
    ) -> Tensor | None:
        """One mask out of two that are checked."""
        layer: Any = self.layers[0]
        layer.self_attention.check_mask(query, key, mask)
        return without_padding(f"{type(self).__name__}: {name}_valid", key, mask, valid)

    @classmethod
    def translate(
        cls, source: Source, kwargs: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> tuple[Mechanism, Mapping[str, Tensor]]:
        layer = kwargs.get("encoder_layer", kwargs.get("decoder_layer"))
        if layer is not None:
            kwargs = {**kwargs, **described(layer)}
        alone = not any(name.startswith("layers.") for name in state)  # torch's layer by itself
        if alone:
            state = {f"layers.0.{name}": tensor for name, tensor in state.items()}
        norm = kwargs.get("norm")
        if isinstance(norm, nn.Module) and not isinstance(norm, nn.LayerNorm):
            raise ValueError(f"{cls.__name__}: norm must be a LayerNorm, got {norm}")
        final_norm = norm is not None or bool(kwargs.get("final_norm"))
        width = kwargs["d_model"]
        module = cls(
            width,
            kwargs["nhead"],
            layers=len({name.split(".")[1] for name in state if name.startswith("layers.")}),
            final_norm=final_norm,
            causal=kwargs.get("causal", False),
            **options(kwargs, forgets=cls.crossed and not alone),
        )
        if final_norm:  # made by itself there, with an eps, weights and a bias of its own
            eps, weights = getattr(norm, "eps", 1e-5), getattr(norm, "elementwise_affine", True)
            module.final_norm = nn.LayerNorm(width, eps, weights, bias="norm.bias" in state)
        return module, renamed(state)


def described(layer: Any) -> dict[str, Any]:
    """The arguments that one of torch's layers was made with."""
    if isinstance(layer, Mapping):
        return dict(layer)
    return {
        "d_model": layer.self_attn.embed_dim,
        "nhead": layer.self_attn.num_heads,
        "dim_feedforward": layer.linear1.out_features,
        "dropout": layer.dropout.p,
        "activation": layer.activation,
        "layer_norm_eps": layer.norm1.eps,
        "norm_first": layer.norm_first,
        "bias": layer.linear1.bias is not None,
    }


def options(kwargs: Mapping[str, Any], *, forgets: bool = False) -> dict[str, Any]:
    """The arguments that all of torch's classes share, as ours.

    A decoder there ``forgets`` an activation that is a module when it copies its layer.
    """
    given = kwargs.get("activation", "relu")  # a name, a function or a module
    name = given if isinstance(given, str) else getattr(given, "__name__", type(given).__name__)
    exact = getattr(given, "approximate", "none") == "none"
    if name.lower() not in ACTIVATIONS or not exact:
        raise ValueError(f"activation: {' and '.join(ACTIVATIONS)} can be loaded, got {given}")
    if forgets and isinstance(given, nn.Module) and not isinstance(given, nn.ReLU):
        raise ValueError(
            f"activation: a decoder of torch drops {given}, a module, and rectifies: say 'relu'"
        )
    return {
        "hidden": kwargs.get("dim_feedforward", 2048),
        "activation": name.lower(),
        "norm": "before" if kwargs.get("norm_first", False) else "after",
        "dropout": kwargs.get("dropout", 0.1),
        "bias": kwargs.get("bias", True),
        "eps": kwargs.get("layer_norm_eps", 1e-5),
    }


PARTS = {
    "self_attn": "self_attention",
    "multihead_attn": "cross_attention",
    "out_proj": "out",
    "linear1": "feed_forward.0",
    "linear2": "feed_forward.3",
    "norm": "final_norm",
    "norm1": "self_norm",
    "norm2": "feed_norm",
    "norm3": "feed_norm",
}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of one of torch's stacks, or of both, under our names."""
    found = {}
    for name, tensor in unstack(state, "in_proj_", ("query", "key", "value")).items():
        parts = name.split(".")
        stem = name.rpartition("norm2")[0]
        crossed = f"{stem}norm3.weight" in state  # there the second norm is that of the memory
        ours = [
            "cross_norm" if part == "norm2" and crossed else PARTS.get(part, part) for part in parts
        ]
        found[".".join(ours)] = tensor
    return found
