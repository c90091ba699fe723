"""Area attention: each of a few runs of consecutive positions attends to itself."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..core import pairwise, tokens, windows
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import above_zero, odd, one_of, positive
from ..core.conv_norm import conv_norm
from ..core.tracing import leaf, recording

Prepared = tuple[Tensor, Tensor, Tensor, Tensor]  # values as a grid; q, k, v: b g heads n d each


class Area(Attention):
    r"""Applies multi-head attention within runs of positions, and convolves the values.

    .. math::
        y = \operatorname{BN}\big(W_o (o + \operatorname{BN}(\operatorname{DWConv}(V)))\big), \quad
        o = [a_1 V_1; \dots; a_H V_H], \quad
        a_h = \operatorname{softmax}\big(d^{-1/2}\, Q_h K_h^\top\big)

    in each of A runs of consecutive positions, row by row, with Q, K and V from linear layers with
    batch norm; section 3.2 of the paper. If A does not divide the number of positions, the last
    run is padded, and the padding is masked.

    In half precision, rounding can change which entry the softmax selects where scores are in
    the hundreds.

    Args:
        channels: :math:`C`.
        num_heads: :math:`H`; a head has :math:`\lfloor C/H \rfloor` channels.
        areas: :math:`A`; 1 for all positions together.
        kernel_size: Side of the depthwise convolution, odd.
        joint: Compute queries, keys and values in one layer, head by head; otherwise the values in
            a layer of their own.
        norm_eps: Added to the variances of the batch norms.
        dims: Axes of space and time: 1, 2 or 3.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c *`` (``dims`` axes of space and time), map ``b g heads q k`` for g runs, and q
        queries and k keys in each, y as x.

    Raises:
        ValueError: a size is not positive, there are more heads than channels, the kernel is even,
            ``norm_eps`` is not above zero, or ``dims`` is unknown.

    >>> Area(64)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 64, 9, 7])
    """

    card = Card(
        title="Area attention",
        paper="YOLOv12: Attention-Centric Real-Time Object Detectors",
        authors="Yunjie Tian, Qixiang Ye, David Doermann",
        venue="NeurIPS",
        year=2025,
        url="https://arxiv.org/abs/2502.12524",
        code="https://github.com/sunsmarterjie/yolov12",
        license="AGPL-3.0",
        domain="spatial",
        computes="conv+matmul",
        applies="matmul",
        kind="relation",
        train_differs=True,
        cost=dict(time="n^2 c + n c^2", memory="n c"),
        aliases=("area_attention", "aattn", "yolov12"),
        differs=(
            "The paper cuts the image into bands; the authors' code, and this file, cuts the row "
            "of all positions, so that a band may end within a row.",
            "Their code takes sizes that the number of areas divides; here the last run is padded.",
            "The default is the first published form; their repository has since had 5x5 kernels "
            "and values from a layer of their own (kernel_size=5, joint=False).",
            "A built YOLO has batch norms with an eps of 1e-3 (norm_eps); the class, and the "
            "default here, has torch's.",
        ),
    )
    axes = Axes("b c *", "b g heads q k", range="softmax")

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        *,
        areas: int = 4,
        kernel_size: int = 7,
        joint: bool = True,
        norm_eps: float = 1e-5,
        dims: Literal[1, 2, 3] = 2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        positive(channels=channels, num_heads=num_heads, areas=areas)
        if num_heads > channels:
            raise ValueError(
                f"num_heads ({num_heads}) must not be larger than channels ({channels})"
            )
        super().__init__(c=channels, heads=num_heads)
        odd(kernel_size=kernel_size)
        above_zero(norm_eps=norm_eps)
        one_of((1, 2, 3), dims=dims)
        self.num_heads, self.areas, self.joint = num_heads, areas, joint
        head_dim = channels // num_heads
        self.scale = head_dim**-0.5
        self.axes = self.axes.over(dims)
        width = num_heads * head_dim
        options: dict[str, Any] = {"dims": dims, "device": device, "dtype": dtype}
        if joint:
            self.qkv = conv_norm(channels, 3 * width, **options)
        else:
            self.qk = conv_norm(channels, 2 * width, **options)
            self.value = conv_norm(channels, width, **options)
        self.local = conv_norm(width, width, kernel_size, groups=width, **options)
        self.out = conv_norm(width, channels, **options)
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eps = norm_eps

    def prepare(self, x: Tensor) -> Prepared:
        if self.joint:
            qkv = self.qkv(x).unflatten(1, (self.num_heads, 3, -1))  # b heads 3 d *
            q, k, v = qkv.unbind(2)
            values = v.flatten(1, 2)
        else:
            qk, values = self.qk(x), self.value(x)
            q, k = qk.unflatten(1, (2, self.num_heads, -1)).unbind(1)
            v = values.unflatten(1, (self.num_heads, -1))
        q, k, v = (_runs(t.flatten(3), self.areas) for t in (q, k, v))
        return values, q, k, v

    def attention(self, z: Prepared) -> Tensor:
        values, q, k, _ = z
        return pairwise.attention_weights(q, k, scale=self.scale, mask=_mask(values, self.areas))

    def combine(self, a: Tensor, z: Prepared) -> Tensor:
        values, _, _, v = z
        return self.join(a @ v, values)

    def fused(self, z: Prepared) -> Tensor:
        values, q, k, v = z
        mask = _mask(values, self.areas)
        y = windows.scaled_dot_product(q, k, v, scale=self.scale, mask=mask)
        return self.join(y, values)

    def join(self, y: Tensor, values: Tensor) -> Tensor:
        """Merge runs and heads ``b g heads n d``, add the convolved values, and project."""
        return self.out(_merged(y, values) + self.local(values))


def _filled(n: Any, areas: int) -> Any:
    """Return the number of positions with the padding."""
    return (n + areas - 1) // areas * areas


@leaf
def _runs(x: Tensor, areas: int) -> Tensor:
    """Cut ``b heads d n`` into runs ``b g heads n d``, padded to the same length."""
    missing = _filled(x.shape[3], areas) - x.shape[3]
    # Compiled code must work for every size: no branch on sizes.
    if recording() or missing:
        x = pad(x, (0, missing))
    return x.unflatten(3, (areas, -1)).permute(0, 3, 1, 4, 2)


@leaf
def _mask(values: Tensor, areas: int) -> Tensor | None:
    """Return which pairs are both image or both padding, ``g 1 n n``; None without padding."""
    n = values.flatten(2).shape[2]
    # Compiled code must work for every size: no branch on sizes.
    if not recording() and n % areas == 0:
        return None
    real = torch.arange(_filled(n, areas), device=values.device) < n
    real = real.unflatten(0, (areas, -1))  # g n
    return (real[:, :, None] == real[:, None])[:, None]


@leaf
def _merged(y: Tensor, values: Tensor) -> Tensor:
    """Merge runs and heads to a grid like the values."""
    y = y.permute(0, 2, 4, 1, 3).flatten(3).flatten(1, 2)  # b c n
    y = tokens.first(y, 2, values.flatten(2).shape[2])
    return tokens.laid_out_like(y.unflatten(2, values.shape[2:]), values)
