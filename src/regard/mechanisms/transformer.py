"""Transformer: a self-attention encoder, and a decoder that also attends to its output."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..core.attention import Mechanism
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import positive
from ..core.tracing import leaf
from ._transformer_stack import KeysValues, TransformerStack


class Transformer(Mechanism):
    r"""Encodes a source by self-attention, and a target by self-attention and cross-attention.

    .. math::
        x \leftarrow \mathrm{LN}\big(x + F(x)\big), \quad
        F(x) = \mathrm{MultiHead}(x, x, x),\ \mathrm{MultiHead}(x, s, s),\ W_2\,\delta(W_1 x)

    in turn, in each layer; s is the output of the encoder, and the sublayer that reads it exists in
    the decoder only. With ``norm_first``, :math:`x \leftarrow x + F(\mathrm{LN}(x))`. Section 3.1
    and figure 1 of the paper. `TransformerEncoder` and `TransformerDecoder` are the two stacks, and
    document the masks; ``memory_key_mask`` defaults to ``source_key_mask``. Token and position
    embeddings and the output layer are left to the caller.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of both sequences.
        num_heads: Heads of each attention.
        num_encoder_layers: Number of encoder layers.
        num_decoder_layers: Number of decoder layers.
        hidden_dim: Hidden dimension of the feed-forward networks; four times ``embed_dim`` by
            default.
        activation: :math:`\delta`.
        norm_first: Normalize the input of each sublayer instead of each sum; the paper normalizes
            the sums.
        final_norm: Normalize the output of each stack.
        causal: Mask the target positions after each position.
        dropout: Dropout rate of attention weights, hidden units and sublayer outputs.
        bias: Give all layers and norms biases.
        eps: Added to the variance in the norms.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        source ``b n d``, target ``b m d``, y as target. The maps are ``b heads n n`` in the
        encoder, ``b heads m m`` and ``b heads m n`` in the decoder.

    Raises:
        ValueError: a size is not positive, the heads do not divide the embedding dimension, the
            dropout is not a rate, or the activation is unknown.

    >>> model = Transformer(64, num_heads=4, num_encoder_layers=1, num_decoder_layers=1)
    >>> model(torch.randn(2, 9, 64), torch.randn(2, 5, 64)).shape
    torch.Size([2, 5, 64])
    """

    card = Card(
        title="Transformer",
        paper="Attention Is All You Need",
        authors=(
            "Ashish Vaswani, Noam Shazeer, Niki Parmar, Jakob Uszkoreit, Llion Jones, Aidan N. "
            "Gomez, Lukasz Kaiser, Illia Polosukhin"
        ),
        venue="NeurIPS",
        year=2017,
        url="https://arxiv.org/abs/1706.03762",
        code="https://github.com/tensorflow/tensor2tensor",
        license="Apache-2.0",
        domain="sequence",
        computes="fc+matmul",
        applies="matmul",
        kind="network",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("transformer", "transformer_encoder", "transformer_decoder"),
        differs=(
            "Each stack ends with a norm, as in torch; the paper's have none (final_norm=False).",
            "Norms come after the sums, as in the paper and in torch; later settings of the "
            "authors' code have them before each sublayer (norm_first=True).",
            "Dropout is also applied to attention weights and hidden units, as in torch; in the "
            "paper only to sublayer outputs and embeddings.",
            "The attention projections have biases, as in torch; the paper's have none.",
            "In torch, causality is an argument of the decoder's call; a decoder loaded from "
            "torch is not causal unless causal=True is among the arguments.",
            "In evaluation, torch's fast path may return zeros at padding; here padding is "
            "computed like the rest.",
        ),
        plug=False,
    )
    axes = Axes(
        "source: b n d, target: b m d",
        "encoder: b heads n n, decoder: b heads m m, cross: b heads m n",
        output="b m d",
        range="softmax",
    )

    def __init__(
        self,
        embed_dim: int,
        num_heads: int = 8,
        *,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        hidden_dim: int | None = None,
        activation: Literal["relu", "gelu"] = "relu",
        norm_first: bool = False,
        final_norm: bool = True,
        causal: bool = True,
        dropout: float = 0.1,
        bias: bool = True,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(d=embed_dim)
        positive(num_encoder_layers=num_encoder_layers, num_decoder_layers=num_decoder_layers)
        options: dict[str, Any] = dict(
            hidden_dim=hidden_dim, activation=activation, norm_first=norm_first
        )
        options |= dict(final_norm=final_norm, dropout=dropout, bias=bias, eps=eps)
        options |= dict(device=device, dtype=dtype)
        self.encoder = TransformerEncoder(
            embed_dim, num_heads, num_layers=num_encoder_layers, **options
        )
        options["causal"] = causal
        self.decoder = TransformerDecoder(
            embed_dim, num_heads, num_layers=num_decoder_layers, **options
        )

    def reset_parameters(self) -> None:
        """Reset both stacks."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_mask: Tensor | None = None,
        source_key_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
        target_key_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        memory_key_mask: Tensor | None = None,
    ) -> Tensor:
        self.check(source, target)
        return self.decoder(
            target,
            self.encoder(source, source_mask=source_mask, source_key_mask=source_key_mask),
            target_mask=target_mask,
            target_key_mask=target_key_mask,
            memory_mask=memory_mask,
            memory_key_mask=_first(memory_key_mask, source_key_mask),
        )


class TransformerEncoder(TransformerStack):
    r"""Encodes a sequence by layers of self-attention: the first half of `Transformer`.

    .. math::
        x \leftarrow \mathrm{LN}\big(x + \mathrm{MultiHead}(x, x, x)\big), \quad
        x \leftarrow \mathrm{LN}\big(x + W_2\,\delta(W_1 x)\big)

    Section 3.1 of the paper. ``source_mask``, ``n n`` or the full map's axes, is True where a
    position may attend, or is added to the scores. ``source_key_mask``, ``b n``, is False at
    padding, to which no position attends (the opposite of torch's ``src_key_padding_mask``).

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of the sequence.
        num_heads: Heads of each attention.
        num_layers: Number of layers.
        hidden_dim: Hidden dimension of the feed-forward networks; four times ``embed_dim`` by
            default.
        activation: :math:`\delta`.
        norm_first: Normalize the input of each sublayer instead of each sum.
        final_norm: Normalize the output.
        causal: Mask the positions after each position; False by default.
        dropout: Dropout rate of attention weights, hidden units and sublayer outputs.
        bias: Give all layers and norms biases.
        eps: Added to the variance in the norms.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        source ``b n d``, y as source. The map of each layer is ``b heads n n``.

    Raises:
        ValueError: a size is not positive, the heads do not divide the embedding dimension, the
            dropout is not a rate, or the activation is unknown.

    >>> TransformerEncoder(64, num_heads=4, num_layers=2)(torch.randn(2, 9, 64)).shape
    torch.Size([2, 9, 64])
    """

    card = replace(Transformer.card, equivariant=("pixels",))
    axes = Axes("source: b n d", "b heads n n", output="b n d", range="softmax")

    def forward(
        self,
        source: Tensor,
        *,
        source_mask: Tensor | None = None,
        source_key_mask: Tensor | None = None,
    ) -> Tensor:
        self.check(source)
        mask = self.readable("source", source, source, source_mask, source_key_mask)
        x = source
        for layer in self.layers:
            x = layer(x, mask)
        return self.final_norm(x)


class DecoderCache(NamedTuple):
    """Cached keys and values that a step of `TransformerDecoder` attends to.

    Attributes:
        memory: Keys and values of the memory, for each layer.
        memory_mask: False at padding of the memory, ``b 1 1 m``; None if there is none.
        past: Keys and values of the positions so far, for each layer.
        key_mask: False at padding of the positions so far, ``b n``; None if there is none.
    """

    memory: tuple[KeysValues, ...]
    memory_mask: Tensor | None
    past: tuple[KeysValues, ...] = ()
    key_mask: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of positions so far."""
        return self.past[0][0].shape[2] if self.past else 0

    def extended(self, target: Tensor, key_mask: Tensor | None) -> Tensor | None:
        """Return `key_mask` extended by that of the next positions."""
        if self.key_mask is None and key_mask is None:
            return None
        b, n, _ = target.shape
        past = target.new_ones(b, self.length, dtype=torch.bool)
        new = target.new_ones(b, n, dtype=torch.bool)
        return torch.cat([_first(self.key_mask, past), _first(key_mask, new)], 1)


class TransformerDecoder(TransformerStack):
    r"""Processes a sequence by self-attention and by cross-attention to a memory.

    The second half of `Transformer`:

    .. math::
        x \leftarrow \mathrm{LN}\big(x + \mathrm{MultiHead}(x, x, x)\big), \quad
        x \leftarrow \mathrm{LN}\big(x + \mathrm{MultiHead}(x, s, s)\big), \quad
        x \leftarrow \mathrm{LN}\big(x + W_2\,\delta(W_1 x)\big)

    with s the memory, which the layers do not normalize. Section 3.1 of the paper. ``target_mask``
    and ``memory_mask``, ``n n`` and ``n m`` or the full maps' axes, are True where a position may
    attend, or are added to the scores. ``target_key_mask`` and ``memory_key_mask``, ``b n`` and
    ``b m``, are False at padding, to which no position attends.

    For generation, `remember` once and then `step` repeatedly return what ``forward`` returns for
    all positions at once, and compute each key and value only once.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        embed_dim: Channels of both sequences.
        num_heads: Heads of each attention.
        num_layers: Number of layers.
        hidden_dim: Hidden dimension of the feed-forward networks; four times ``embed_dim`` by
            default.
        activation: :math:`\delta`.
        norm_first: Normalize the input of each sublayer instead of each sum.
        final_norm: Normalize the output.
        causal: Mask the target positions after each position; True by default.
        dropout: Dropout rate of attention weights, hidden units and sublayer outputs.
        bias: Give all layers and norms biases.
        eps: Added to the variance in the norms.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        target ``b n d``, memory ``b m d``, y as target. Each layer has two maps, ``b heads n n``
        and ``b heads n m``.

    Raises:
        ValueError: a size is not positive, the heads do not divide the embedding dimension, the
            dropout is not a rate, or the activation is unknown.

    >>> decoder = TransformerDecoder(64, num_heads=4, num_layers=2).eval()
    >>> target, memory = torch.randn(2, 5, 64), torch.randn(2, 9, 64)
    >>> first, cache = decoder.step(target[:, :4], decoder.remember(memory))
    >>> last, cache = decoder.step(target[:, 4:], cache)
    >>> torch.allclose(torch.cat([first, last], 1), decoder(target, memory), atol=1e-5)
    True
    """

    card = Transformer.card
    axes = Axes(
        "target: b n d, memory: b m d",
        "self: b heads n n, cross: b heads n m",
        output="b n d",
        range="softmax",
    )
    crossed = True

    def forward(
        self,
        target: Tensor,
        memory: Tensor,
        *,
        target_mask: Tensor | None = None,
        target_key_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        memory_key_mask: Tensor | None = None,
    ) -> Tensor:
        self.check(target, memory)
        mask = self.readable("target", target, target, target_mask, target_key_mask)
        memory_mask = self.readable("memory", target, memory, memory_mask, memory_key_mask)
        x = target
        for layer in self.layers:
            x = layer(x, mask, memory, memory_mask)
        return self.final_norm(x)

    def remember(self, memory: Tensor, *, memory_key_mask: Tensor | None = None) -> DecoderCache:
        """Return the cache for the first step, with the keys and values of the memory."""
        self.check(memory, memory)
        key_mask = self.readable("memory", memory, memory, None, memory_key_mask)
        layers: Any = self.layers
        return DecoderCache(tuple(layer.remember(memory) for layer in layers), key_mask)

    def step(
        self, target: Tensor, cache: DecoderCache, *, target_key_mask: Tensor | None = None
    ) -> tuple[Tensor, DecoderCache]:
        """Run the next positions and return their output and the cache for the following step.

        Args:
            target: One or more positions, ``b n d``.
            cache: From `remember` or from the previous step; not modified.
            target_key_mask: False at padding, ``b n``.
        """
        if not self.causal:
            raise ValueError(
                "TransformerDecoder: step needs causal=True: later positions are not known yet"
            )
        self.check(target)
        self.readable("target", target, target, None, target_key_mask)
        key_mask = cache.extended(target, target_key_mask)
        mask = None if key_mask is None else key_mask[:, None, None]
        layers: Any = self.layers
        x, kept = target, []
        for i, layer in enumerate(layers):
            past = cache.past[i] if cache.past else None
            x, past = layer.step(x, mask, cache.memory[i], cache.memory_mask, past)
            kept.append(past)
        return self.final_norm(x), cache._replace(past=tuple(kept), key_mask=key_mask)


@leaf
def _first(mask: Tensor | None, default: Tensor | None) -> Tensor | None:
    """Return the mask, or the default if it is None."""
    return default if mask is None else mask
