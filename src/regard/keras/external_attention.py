"""External attention: tokens attend to a learned memory that all images share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import one_of, positive
from . import parts
from .attention import Attention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor]  # x and its tokens, b n c or b heads n d


@keras.saving.register_keras_serializable("regard")
class ExternalAttention(Attention):
    """Lets tokens attend to a small learned memory of keys and values, shared by all images.

    ``data_format`` is for the ``block`` form only: tokens always have channels last.
    """

    def __init__(
        self,
        num_slots: int = 64,
        *,
        form: Literal["tokens", "block", "heads"] = "tokens",
        num_heads: int = 32,
        eps: float = 1e-9,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        positive(num_slots=num_slots, num_heads=num_heads)
        one_of(("tokens", "block", "heads"), form=form)
        if eps < 0:
            raise ValueError(f"eps must not be below zero, got {eps}")
        self.num_slots, self.form, self.num_heads, self.eps = num_slots, form, num_heads, eps

    @property
    def axes(self) -> Axes:
        """The named axes of this form."""
        if self.form == "block":
            return replace(super().axes, input="b c h w", output="b c h w")
        return replace(super().axes, map="b heads n s") if self.form == "heads" else super().axes

    def construct(self, shape: Shape) -> None:
        embed_dim, factory = shape[-1], {"dtype": self.dtype_policy}
        token_dim, bias = embed_dim, False
        if self.form == "block":
            self.before = parts.dense(embed_dim, embed_dim, **factory)
        elif self.form == "heads":
            if 4 * embed_dim % self.num_heads:
                raise ValueError(
                    f"num_heads ({self.num_heads}) must divide four times embed_dim ({embed_dim})"
                )
            self.before = parts.dense(embed_dim, 4 * embed_dim, **factory)
            token_dim, bias = 4 * embed_dim // self.num_heads, True
        self.keys = parts.dense(token_dim, self.num_slots, bias=bias, **factory)
        self.values = parts.dense(self.num_slots, token_dim, bias=bias, **factory)
        if self.form == "block":
            self.after: Any = [
                parts.dense(embed_dim, embed_dim, bias=False, **factory),
                parts.batch_norm(embed_dim, momentum=3e-4, **factory),
            ]
        elif self.form == "heads":
            self.after = parts.dense(4 * embed_dim, embed_dim, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        if self.form == "block":
            return x, self.before(parts.tokens(x))
        if self.form == "heads":
            return x, parts.split_heads(self.before(x), self.num_heads)
        return x, x

    def attention(self, z: Prepared) -> Tensor:
        _, tokens = z
        return parts.softmax(self.keys(tokens), -2)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _ = z
        y = self.values(a / (self.eps + ops.sum(a, -1, keepdims=True)))
        if self.form == "block":
            y = parts.apply_layers(self.after, y)
            return ops.relu(x + ops.reshape(y, ops.shape(x)))
        return self.after(parts.merge_heads(y)) if self.form == "heads" else y
