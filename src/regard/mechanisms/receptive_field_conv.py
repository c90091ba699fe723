"""Receptive-field attention: a convolution that weighs each of its windows differently."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, hardswish, pixel_shuffle, unfold

from ..core import grid, precision
from ..core.attention import Attention
from ..core.axes import Axes
from ..core.card import Card
from ..core.check import odd, one_of, positive
from ..core.tracing import leaf

Maps = Tensor | tuple[Tensor, Tensor]
FORMS = ("group", "unfold", "cbam", "coordinate")


class ReceptiveFieldConv(Attention):
    r"""Convolves features of each window, in which every position has a weight of its own.

    .. math::
        y = K \star (a \odot F), \quad F = \delta\big(\mathrm{BN}(E * x)\big)

    where E gives each channel :math:`k^2` features at each position, one for each place in the
    :math:`k \times k` window there, :math:`\delta` is ReLU, and :math:`K \star` applies a kernel to
    each window on its own. The map is, by form,

    - ``group``: :math:`a = \operatorname{softmax}_t(w_{ct}\, \bar x_c)` over the places t of a
      window, from its average; the paper's RFAConv, section 3;
    - ``unfold``: :math:`a = \operatorname{softmax}_t(\mathrm{BN}(W_c F_c + b))`, with the values of
      x in the window as F; the authors' earlier form;
    - ``cbam``: :math:`a = \sigma(V_2\,\delta(V_1 \bar x))\, \sigma\big(\kappa * [\max_c F;
      \operatorname{mean}_c F]\big)`, a gate for channels times one for places; RFCBAMConv;
    - ``coordinate``: a gate for the rows times one for the columns of all windows side by side, as
      in `Coordinate`; RFCAConv.

    In half precision, the softmax of large scores is almost a maximum, and rounding can change
    whose.

    Args:
        in_channels: Channels of x.
        out_channels: Channels of y; those of x by default.
        kernel_size: :math:`k`, odd.
        form: The map, as above.
        stride: Stride.
        norm: Apply batch norm and ReLU to y; by default all forms but ``coordinate`` do.
        reduction: The hidden layer of ``coordinate`` has :math:`\max(8, \lfloor C/r \rfloor)`
            channels.
        device: Where to put the parameters.
        dtype: Their type.

    Shape:
        x ``b c h w``, y ``b o y x``. The map of ``group`` and ``unfold`` is ``b c k y x`` for the k
        places of a window, row by row; those of ``cbam`` are ``b c 1 1`` and ``b 1 u v``, and of
        ``coordinate`` ``b c u 1`` and ``b c 1 v``, for the rows u and columns v of all windows side
        by side.

    Raises:
        ValueError: a size is not positive, the kernel is even, the form is unknown, or ``unfold``
            has another stride than one.

    >>> ReceptiveFieldConv(64, 32)(torch.randn(2, 64, 9, 7)).shape
    torch.Size([2, 32, 9, 7])
    """

    card = Card(
        title="Receptive-Field Attention Convolution",
        paper="RFAConv: Innovating Spatial Attention and Standard Convolutional Operation",
        authors="Xin Zhang, Chen Liu, Degang Yang, Tingting Song, Yichen Ye, Ke Li, Yingze Song",
        venue="arXiv",
        year=2023,
        url="https://arxiv.org/abs/2304.03198",
        code="https://github.com/Liuchen1997/RFAConv",
        license="none stated",
        domain="spatial",
        computes="pool+conv",
        applies="gate",
        kind="convolution",
        train_differs=True,
        cost=dict(time="n c^2", memory="n c"),
        aliases=(
            "rfaconv",
            "rfa",
            "receptive_field_attention",
            "rfcbam",
            "rfcbamconv",
            "rfca",
            "rfcaconv",
        ),
        differs=(
            "The authors' classification files leave batch norm and ReLU after the convolution to "
            "the network (norm=False).",
            "In form 'cbam', channels are pooled over before they are weighed, as in the authors' "
            "code.",
        ),
    )
    axes = Axes("b c h w", "b c k y x", output="b o y x", range="softmax k")

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_size: int = 3,
        *,
        form: Literal["group", "unfold", "cbam", "coordinate"] = "group",
        stride: int = 1,
        norm: bool | None = None,
        reduction: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(c=in_channels)
        out_channels = in_channels if out_channels is None else out_channels
        positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        positive(reduction=reduction)
        odd(kernel_size=kernel_size)
        one_of(FORMS, form=form)
        if form == "unfold" and stride != 1:
            raise ValueError(f"stride must be 1 for form='unfold', got {stride}")
        self.form, self.side, self.stride = form, kernel_size, stride
        places = in_channels * kernel_size**2
        factory = {"device": device, "dtype": dtype}
        window = (kernel_size, stride, kernel_size // 2)
        separate = {"groups": in_channels, **factory}
        if form != "unfold":
            self.features = nn.Sequential(
                nn.Conv2d(in_channels, places, *window, bias=False, **separate),
                nn.BatchNorm2d(places, **factory),
                nn.ReLU(),
            )
        if form == "group":
            self.weigh = nn.Conv2d(in_channels, places, 1, bias=False, **separate)
        elif form == "unfold":
            self.weigh = nn.Conv2d(places, places, 1, **separate)
            self.weigh_norm = nn.BatchNorm2d(places, **factory)
        elif form == "cbam":
            self.axes = replace(self.axes, map="channel: b c 1 1, spatial: b 1 u v", range="unit")
            self.squeeze = nn.Linear(in_channels, 16, bias=False, **factory)
            self.excite = nn.Linear(16, in_channels, bias=False, **factory)
            self.look = nn.Conv2d(2, 1, 3, padding=1, bias=False, **factory)
        else:
            self.axes = replace(self.axes, map="h: b c u 1, w: b c 1 v", range="unit")
            hidden_dim = max(8, in_channels // reduction)
            self.shared = nn.Conv1d(in_channels, hidden_dim, 1, **factory)
            self.shared_norm = nn.BatchNorm1d(hidden_dim, **factory)
            self.height = nn.Conv1d(hidden_dim, in_channels, 1, **factory)
            self.width = nn.Conv1d(hidden_dim, in_channels, 1, **factory)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, kernel_size, **factory)
        norm = form != "coordinate" if norm is None else norm
        self.norm = nn.BatchNorm2d(out_channels, **factory) if norm else None

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = _windows(x, self.side) if self.form == "unfold" else self.features(x)
        return f, x  # b (c k) y x

    def attention(self, z: tuple[Tensor, Tensor]) -> Maps:
        f, x = z
        if self.form == "group":
            return self._over_places(
                self.weigh(avg_pool2d(x, self.side, self.stride, self.side // 2))
            )
        if self.form == "unfold":
            return self._over_places(self.weigh_norm(self.weigh(f)))
        side_by_side = pixel_shuffle(f, self.side)  # b c u v
        if self.form == "cbam":
            channel = self.excite(self.squeeze(grid.mean(x)).relu()).sigmoid()
            planes = [grid.amax(side_by_side, 1, keepdim=True), side_by_side.mean(1, keepdim=True)]
            spatial = self.look(torch.cat(planes, 1)).sigmoid()
            return grid.broadcast_gate(channel, x), spatial
        h, w = side_by_side.mean(3), side_by_side.mean(2)
        t = hardswish(self.shared_norm(self.shared(torch.cat([h, w], 2))))
        t_h, t_w = t.split([h.shape[2], w.shape[2]], 2)
        return self.height(t_h).sigmoid().unsqueeze(3), self.width(t_w).sigmoid().unsqueeze(2)

    def combine(self, a: Maps, z: tuple[Tensor, Tensor]) -> Tensor:
        f, _ = z
        if isinstance(a, tuple):
            y = self.conv(pixel_shuffle(f, self.side) * a[0] * a[1])
        else:  # a window is a position with more channels
            weight = self.conv.weight.flatten(1)[..., None, None]
            y = conv2d(
                (f.unflatten(1, (-1, self.side**2)) * a).flatten(1, 2), weight, self.conv.bias
            )
        return y if self.norm is None else grid.relu(self.norm(y))

    def _over_places(self, scores: Tensor) -> Tensor:
        return precision.softmax(scores.unflatten(1, (-1, self.side**2)), 2)


@leaf
def _windows(x: Tensor, side: int) -> Tensor:
    """Return the values of the window around each position, with zeros outside the image."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    y = unfold(x, side, padding=side // 2).unflatten(2, x.shape[2:])
    return y.contiguous(memory_format=torch.channels_last) if last else y
