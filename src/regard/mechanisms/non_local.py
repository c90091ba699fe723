"""Non-local block: every position attends to every position."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import grid, pairwise
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import one_of, positive
from ..core.conv_norm import CONV, NORM

FORMS = ("embedded", "gaussian", "dot", "concat")

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # x; q b n d, k and v b m d


class NonLocal(Attention):
    r"""Adds to each position a weighted sum over all positions.

    .. math::
        y_i = x_i + \mathrm{BN}\big(W_z \textstyle\sum_j a_{ij}\, g(x_j)\big), \quad
        a_{ij} = \operatorname{softmax}_j \frac{\theta(x_i)^\top \phi(x_j)}{\sqrt d}

    in the ``embedded`` form; without the scale and with :math:`\theta = \phi = 1` in the
    ``gaussian`` one. ``dot`` is :math:`a_{ij} = \theta(x_i)^\top \phi(x_j) / m`, and ``concat``
    :math:`a_{ij} = \delta(w^\top [\theta(x_i); \phi(x_j)]) / m` for m keys and :math:`\delta` =
    ReLU. Equations 1 to 6 of the paper and its concatenation form.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        hidden_dim: :math:`d`, the channels of :math:`\theta`, :math:`\phi` and :math:`g`; by
            default half of ``channels``.
        form: How the scores are computed.
        dims: Axes of space and time: 1, 2 or 3.
        subsample: Max-pool keys and values by 2, in height and width but not in time: pool the
            ``input`` as the authors do, the ``projections`` as the best-known re-implementation
            does, or nothing.
        scaled: Divide the scores of the embedded form by :math:`\sqrt d`.
        norm: Apply batch norm to the sum before it is added.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b n m`` for n positions and m keys, y
        as x.

    Raises:
        ValueError: a size is not positive, or ``form``, ``subsample`` or ``dims`` is unknown.

    >>> NonLocal(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Non-local block",
        paper="Non-local Neural Networks",
        authors="Xiaolong Wang, Ross Girshick, Abhinav Gupta, Kaiming He",
        venue="CVPR",
        year=2018,
        url="https://arxiv.org/abs/1711.07971",
        code="https://github.com/facebookresearch/video-nonlocal-net",
        license="CC-BY-NC-4.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        identity_at_init=True,
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("nonlocal", "non_local_block", "nl"),
        differs=(
            "The authors' code, and the default here, pools the input before projecting keys and "
            "values and divides the scores by the root of d; the paper does not divide "
            "(scaled=False).",
            "The authors released the embedded and the dot form only.",
        ),
    )
    axes = Axes("b c *", "b n m", range="softmax")

    def __init__(
        self,
        channels: int,
        hidden_dim: int | None = None,
        *,
        form: Literal["embedded", "gaussian", "dot", "concat"] = "embedded",
        dims: Literal[1, 2, 3] = 2,
        subsample: Literal["input", "projections"] | None = "input",
        scaled: bool = True,
        norm: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        positive(channels=channels)
        one_of(FORMS, form=form)
        one_of((1, 2, 3), dims=dims)
        one_of(("input", "projections", None), subsample=subsample)
        hidden_dim = max(channels // 2, 1) if hidden_dim is None else hidden_dim
        positive(hidden_dim=hidden_dim)
        self.form, self.dims, self.subsample = form, dims, subsample
        self.scale = hidden_dim**-0.5 if scaled and form == "embedded" else 1.0
        self.axes = replace(
            self.axes.over(dims),
            range="softmax" if form in ("embedded", "gaussian") else "real",
        )
        factory = {"device": device, "dtype": dtype}
        if form != "gaussian":
            self.theta = CONV[dims](channels, hidden_dim, 1, **factory)
            self.phi = CONV[dims](channels, hidden_dim, 1, **factory)
        if form == "concat":
            self.compare = nn.Linear(2 * hidden_dim, 1, bias=False, **factory)
        self.g = CONV[dims](channels, hidden_dim, 1, **factory)
        self.out = CONV[dims](hidden_dim, channels, 1, **factory)
        self.norm = NORM[dims](channels, **factory) if norm else nn.Identity()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the last layer starts at zero, so that the block starts as x."""
        super().reset_parameters()
        last = self.out if isinstance(self.norm, nn.Identity) else self.norm
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def prepare(self, x: Tensor) -> Prepared:
        source = grid.max_pool(x) if self.subsample == "input" else x
        q = x if self.form == "gaussian" else self.theta(x)
        k = source if self.form == "gaussian" else self.phi(source)
        v = self.g(source)
        if self.subsample == "projections":
            k, v = grid.max_pool(k), grid.max_pool(v)
        q, k, v = q.flatten(2), k.flatten(2), v.flatten(2)
        return x, q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def attention(self, z: Prepared) -> Tensor:
        _, q, k, _ = z
        if self.form == "dot":
            return q @ k.transpose(-2, -1) / k.shape[1]
        if self.form == "concat":
            w_q, w_k = self.compare.weight.transpose(-2, -1).chunk(2)  # w [q; k] = w_q q + w_k k
            return (q @ w_q + (k @ w_k).transpose(-2, -1)).relu() / k.shape[1]
        return pairwise.attention_weights(q, k, scale=self.scale)

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        x, _, _, v = z
        return self.add(a @ v, x)

    def fused(self, z: Prepared) -> Tensor | None:
        x, q, k, v = z
        if self.form == "concat":
            return None
        if self.form == "dot":  # (q k) v = q (k v): linear in the number of positions
            return self.add(q @ (k.transpose(-2, -1) @ v / k.shape[1]), x)
        return self.add(pairwise.scaled_dot_product(q, k, v, scale=self.scale), x)

    def add(self, y: Tensor, x: Tensor) -> Tensor:
        """Project the attention's output y, and add it to x."""
        return x + self.norm(self.out(y.transpose(-2, -1).unflatten(2, x.shape[2:])))
