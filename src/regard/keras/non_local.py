"""Non-local block: every position attends to every position."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from ..core.check import one_of, positive
from . import parts
from .attention import Attention, Shape
from .parts import Tensor

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x; q b n d, k and v b m d

FORMS = ("embedded", "gaussian", "dot", "concat")


@keras.saving.register_keras_serializable("regard")
class NonLocal(Attention):
    """Adds to each position a weighted sum over all positions.

    The number of axes of space and time is read from the input.
    """

    def __init__(
        self,
        hidden_dim: int | None = None,
        *,
        form: Literal["embedded", "gaussian", "dot", "concat"] = "embedded",
        subsample: Literal["input", "projections"] | None = "input",
        scaled: bool = True,
        norm: bool = True,
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        one_of(FORMS, form=form)
        one_of(("input", "projections", None), subsample=subsample)
        positive(hidden_dim=1 if hidden_dim is None else hidden_dim)
        self.hidden_dim, self.form = hidden_dim, form
        self.subsample, self.scaled = subsample, scaled
        self.norm: Any = norm  # the layer itself after `construct`

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "norm": bool(self.norm)}

    def construct(self, shape: Shape) -> None:
        channels, factory = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = max(channels // 2, 1) if self.hidden_dim is None else self.hidden_dim
        if self.form != "gaussian":
            self.theta = parts.dense(channels, hidden_dim, **factory)
            self.phi = parts.dense(channels, hidden_dim, **factory)
        if self.form == "concat":
            self.compare = parts.dense(2 * hidden_dim, 1, bias=False, **factory)
        self.g = parts.dense(channels, hidden_dim, **factory)
        # The last layer starts at zero, so that the block starts as x.
        self.out = parts.dense(hidden_dim, channels, zero=not self.norm, **factory)
        self.norm = self.norm and parts.batch_norm(channels, zero=True, **factory)

    def prepare(self, x: Tensor) -> Prepared:
        source = parts.max_pool(x) if self.subsample == "input" else x
        q = x if self.form == "gaussian" else self.theta(x)
        k = source if self.form == "gaussian" else self.phi(source)
        v = self.g(source)
        if self.subsample == "projections":
            k, v = parts.max_pool(k), parts.max_pool(v)
        return x, parts.tokens(q), parts.tokens(k), parts.tokens(v)

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        if self.form == "gaussian":
            return parts.attention_weights(q, k)
        hidden_dim = k.shape[-1]
        if self.form == "embedded":
            return parts.attention_weights(q, k, scale=hidden_dim**-0.5 if self.scaled else 1.0)
        num_keys = parts.num_entries(k, (1,))
        if self.form == "dot":
            return ops.matmul(q, ops.swapaxes(k, 1, 2)) / num_keys
        w = ops.cast(self.compare.kernel, k.dtype)  # w [q; k] = w_q q + w_k k
        w_q, w_k = w[:hidden_dim], w[hidden_dim:]
        scores = ops.matmul(q, w_q) + ops.swapaxes(ops.matmul(k, w_k), 1, 2)
        return ops.relu(scores) / num_keys

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        y = self.out(ops.matmul(a, v))  # b n c
        y = self.norm(y) if self.norm else y
        return x + ops.reshape(y, ops.shape(x))
