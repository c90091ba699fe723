"""Global context: one weighted average over all positions, added to each of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, one_of, reduced


class GlobalContext(Attention):
    r"""Adds the same context vector to every position: a weighted average over all positions.

    .. math::
        y_i = x_i + W_{v2}\,\delta\big(\mathrm{LN}(W_{v1} z)\big), \quad
        z = \textstyle\sum_j a_j x_j, \quad a_j = \operatorname{softmax}_j\, W_k x_j

    with :math:`\delta` = ReLU, LN a layer norm over the :math:`C/r` hidden channels of each image,
    :math:`W_{v1}` of shape :math:`(C/r, C)` and :math:`W_{v2}` of :math:`(C, C/r)`; equation 5 and
    figure 4 of the paper.

    Args:
        channels: :math:`C`.
        reduction: :math:`r`; the hidden layer has :math:`\lfloor C/r \rfloor` channels.
        hidden_dim: The number of hidden channels, instead of ``reduction``.
        pooling: Average the positions with attention weights (``attention``) or with equal weights
            (``mean``).
        fusion: Add the transformed context to x (``add``), multiply x by its sigmoid (``mul``), or
            multiply and then add, each with separate layers (``both``).
        eps: Epsilon of the layer norm.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (one to three axes of space and time), map ``b 1 n`` for n positions, y as x.

    Raises:
        ValueError: a size or eps is not positive, the reduction leaves no hidden channel, or the
            pooling or the fusion is unknown.

    >>> GlobalContext(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Global Context",
        paper="GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
        authors="Yue Cao, Jiarui Xu, Stephen Lin, Fangyun Wei, Han Hu",
        venue="ICCV Workshops",
        year=2019,
        url="https://arxiv.org/abs/1904.11492",
        code="https://github.com/xvjiarui/GCNet",
        license="Apache-2.0",
        domain="spatial",
        computes="conv+matmul+fc",
        applies="add",
        kind="relation",
        equivariant=("pixels",),
        identity_at_init=True,
        cost=dict(time="n c + c^2", memory="n c"),
        aliases=("gc", "gcnet", "gc_block", "global_context_block", "context_block"),
        differs=(
            "Sigmoid gates and equal weights are ablations in the paper and the authors' code "
            "(fusion='mul', fusion='both', pooling='mean').",
            "timm's layer of the same name multiplies by default, with r = 8 and an eps of 1e-6.",
        ),
    )
    axes = Axes("b c *", "b 1 n", range="softmax")

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        *,
        hidden_dim: int | None = None,
        pooling: Literal["attention", "mean"] = "attention",
        fusion: Literal["add", "mul", "both"] = "add",
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=channels)
        hidden_dim = reduced(channels, reduction, hidden_dim)
        one_of(("attention", "mean"), pooling=pooling)
        one_of(("add", "mul", "both"), fusion=fusion)
        above_zero(eps=eps)
        self.pooling = pooling
        self.fusion = fusion
        self.axes = replace(self.axes, range="unit" if pooling == "mean" else "softmax")
        self.identity_at_init = fusion == "add"
        factory: dict[str, Any] = {"device": device, "dtype": dtype}

        def transform() -> nn.Sequential:
            return nn.Sequential(
                nn.Linear(channels, hidden_dim, **factory),
                nn.LayerNorm(hidden_dim, eps, **factory),
                nn.ReLU(),
                nn.Linear(hidden_dim, channels, **factory),
            )

        if pooling == "attention":
            self.score = nn.Linear(channels, 1, **factory)
        if fusion != "add":
            self.mul = transform()
        if fusion != "mul":
            self.add = transform()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the last layers start at zero, so that a new module adds nothing."""
        super().reset_parameters()
        if self.pooling == "attention":
            nn.init.kaiming_normal_(self.score.weight, nonlinearity="relu")
            nn.init.zeros_(self.score.bias)
        for name in ("mul", "add"):
            if self.fusion in (name, "both"):
                for parameter in self.get_submodule(f"{name}.3").parameters():
                    nn.init.zeros_(parameter)

    def attention(self, x: Tensor) -> Tensor:
        x = x.flatten(2)  # b c n
        if self.pooling == "mean":
            return torch.ones_like(x[:, :1]) / x.shape[2]
        scores = self.score.weight[None] @ x + self.score.bias  # b 1 n
        return precision.softmax(scores, -1)

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return self.fuse((x.flatten(2) @ a.transpose(-2, -1)).squeeze(2), x)

    def fused(self, x: Tensor) -> Tensor | None:
        return self.fuse(grid.mean(x), x) if self.pooling == "mean" else None

    def fuse(self, z: Tensor, x: Tensor) -> Tensor:
        y = x
        if self.fusion != "add":
            y = y * grid.broadcast_gate(self.mul(z).sigmoid(), x)
        if self.fusion != "mul":
            y = y + grid.broadcast_gate(self.add(z), x)
        return y
