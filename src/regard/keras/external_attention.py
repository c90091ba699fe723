"""External attention: tokens read a learned memory that all images share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import keras
from keras import ops

from ..core.axes import Axes
from ..core.check import one_of, positive
from . import parts
from .attention import Attention, Shape


@keras.saving.register_keras_serializable("regard")
class ExternalAttention(Attention):
    """Replaces keys and values by two small memories that are learned over the whole data set.

    ``data_format`` speaks of the ``block`` form alone: tokens have their channels last.
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
        """The axes of this form."""
        if self.form == "block":
            return replace(super().axes, input="b c h w", output="b c h w")
        return replace(super().axes, map="b heads n s") if self.form == "heads" else super().axes

    def construct(self, shape: Shape) -> None:
        embed_dim, made = shape[-1], {"dtype": self.dtype_policy}
        inner, bias = embed_dim, False
        if self.form == "block":
            self.before = parts.dense(embed_dim, embed_dim, **made)
        elif self.form == "heads":
            if 4 * embed_dim % self.num_heads:
                raise ValueError(
                    f"num_heads ({self.num_heads}) must divide four times the width ({embed_dim})"
                )
            self.before = parts.dense(embed_dim, 4 * embed_dim, **made)
            inner, bias = 4 * embed_dim // self.num_heads, True
        self.keys = parts.dense(inner, self.num_slots, bias=bias, **made)
        self.values = parts.dense(self.num_slots, inner, bias=bias, **made)
        if self.form == "block":
            last = parts.dense(embed_dim, embed_dim, bias=False, **made)
            self.after: Any = [last, parts.batch_norm(embed_dim, momentum=3e-4, **made)]
        elif self.form == "heads":
            self.after = parts.dense(4 * embed_dim, embed_dim, **made)

    def prepare(self, x: Any) -> tuple[Any, Any]:
        if self.form == "block":
            return x, self.before(parts.rows(x))  # b n c
        if self.form == "heads":
            return x, parts.divide(self.before(x), self.num_heads)  # b heads n d
        return x, x

    def attention(self, x: tuple[Any, Any]) -> Any:
        return parts.softmax(self.keys(x[1]), -2)

    def combine(self, a: Any, x: tuple[Any, Any]) -> Any:
        y = self.values(a / (self.eps + ops.sum(a, -1, keepdims=True)))
        if self.form == "block":
            last, norm = self.after
            return ops.relu(x[0] + ops.reshape(norm(last(y)), ops.shape(x[0])))
        return self.after(parts.join(y)) if self.form == "heads" else y
