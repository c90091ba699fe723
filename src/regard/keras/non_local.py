"""Non-local block: every position reads every position."""

from __future__ import annotations

from typing import Any, Literal

import keras
from keras import ops

from ..core.check import one_of, positive
from . import parts
from .attention import Attention, Shape

FORMS = ("embedded", "gaussian", "dot", "concat")


@keras.saving.register_keras_serializable("regard")
class NonLocal(Attention):
    """Adds to each position a weighted sum over all positions.

    The number of axes of space and time is that of the input.
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
        self.hidden_dim, self.form, self.subsample, self.scaled = (
            hidden_dim,
            form,
            subsample,
            scaled,
        )
        self.norm: Any = norm  # the layer itself, once it is built

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "norm": bool(self.norm)}

    def construct(self, shape: Shape) -> None:
        channels, made = shape[-1], {"dtype": self.dtype_policy}
        hidden_dim = max(channels // 2, 1) if self.hidden_dim is None else self.hidden_dim
        if self.form != "gaussian":
            self.theta = parts.dense(channels, hidden_dim, **made)
            self.phi = parts.dense(channels, hidden_dim, **made)
        if self.form == "concat":
            self.compare = parts.dense(2 * hidden_dim, 1, bias=False, **made)
        self.g = parts.dense(channels, hidden_dim, **made)
        # The last layer starts at zero, so that the block starts as x.
        self.out = parts.dense(hidden_dim, channels, zero=not self.norm, **made)
        self.norm = self.norm and parts.batch_norm(channels, zero=True, **made)

    def prepare(self, x: Any) -> tuple[Any, Any, Any, Any]:
        source = parts.shrink(x) if self.subsample == "input" else x
        q = x if self.form == "gaussian" else self.theta(x)
        k = source if self.form == "gaussian" else self.phi(source)
        v = self.g(source)
        if self.subsample == "projections":
            k, v = parts.shrink(k), parts.shrink(v)
        return x, parts.rows(q), parts.rows(k), parts.rows(v)  # x, b n d, b m d, b m d

    def attention(self, x: tuple[Any, Any, Any, Any]) -> Any:
        _, q, k, _ = x
        if self.form == "gaussian":
            return parts.weigh(q, k)
        width = k.shape[-1]
        if self.form == "embedded":
            return parts.weigh(q, k, scale=width**-0.5 if self.scaled else 1.0)
        keys = parts.count(k, (1,))
        if self.form == "dot":
            return ops.matmul(q, ops.swapaxes(k, 1, 2)) / keys
        w = ops.cast(self.compare.kernel, k.dtype)  # w [q; k] = w_q q + w_k k
        scores = ops.matmul(q, w[:width]) + ops.swapaxes(ops.matmul(k, w[width:]), 1, 2)
        return ops.relu(scores) / keys

    def combine(self, a: Any, x: tuple[Any, Any, Any, Any]) -> Any:
        y = self.out(ops.matmul(a, x[3]))  # b n c
        y = self.norm(y) if self.norm else y
        return x[0] + ops.reshape(y, ops.shape(x[0]))
