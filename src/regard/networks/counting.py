"""Compare the published parameters and MACs of a network with those that are counted here."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..measurement import Measurement, measure
from .build import build
from .table import Network

# Which operations the published MACs count, and the result for a well-known network.
CONVENTIONS = {
    "conv+matmul": "convolutions and matrix products (ResNet-50: 4.089 G)",
    "caffe": "convolutions and matrix products of a ResNet whose bottlenecks have their stride on "
    "the first convolution (ResNet-50: 3.858 G)",
    "ptflops": "convolutions, linear layers, and norms, ReLUs and pools at one or two MACs per "
    "element (ResNet-50: 4.122 G)",
    "fvcore": "convolutions, matrix products, norms and pools (ResNet-50: 4.112 G)",
    "thop": "convolutions, linear layers, norms and pools (FcaNet-50: 4.136 G)",
    "thop/2^30": "convolutions, linear layers, norms and pools, in units of 2^30 (ResNet-50: 3.86)",
    "no attention products": "convolutions and linear layers, without the products of attention",
}
UNITS = {"K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Figure:
    """A published figure, and the count of this library.

    Attributes:
        name: ``parameters`` or ``MACs``.
        published: The figure as printed; empty if there is none.
        counted: The count.
        unit: Unit of the printed figure: 1, 10⁶, 2²⁰, …
    """

    name: str
    published: str
    counted: int
    unit: float

    @property
    def shown(self) -> str:
        """The published figure, with its unit if this is not a power of ten.

        >>> Figure("parameters", "24.37M", 25557112, 2**20).shown
        '24.37M of 2^20'
        """
        powers = {2**20: " of 2^20", 2**30: " of 2^30"}
        return self.published + powers.get(int(self.unit), "")

    @property
    def printed(self) -> float:
        """The published figure as a number."""
        return float(re.sub(r"[^\d.]", "", self.published)) * self.unit

    @property
    def agrees(self) -> bool:
        """Whether the count, rounded to as many digits, equals the printed figure."""
        digits = len(self.published.rstrip("KMG").partition(".")[2])
        return round(self.counted / self.unit, digits) * self.unit == self.printed

    @property
    def difference(self) -> str:
        """The relative difference of the count from the printed figure.

        >>> Figure("MACs", "4.130G", 4091699200, 1e9).difference
        '-0.93 %'
        >>> Figure("parameters", "28.09M", 28088024, 1e6).difference
        '0 %'
        """
        if not self.published:
            return ""
        percent = 100 * (self.counted / self.printed - 1)
        return "0 %" if self.agrees else f"{percent:+.2g} %"


@dataclass(frozen=True)
class Counted:
    """The published and counted figures of a network.

    Attributes:
        network: Description of the network.
        measurement: Its cost for one input.
    """

    network: Network
    measurement: Measurement

    @property
    def parameters(self) -> Figure:
        """Figure of the parameters."""
        return self._figure("parameters", "params", self.measurement.params)

    @property
    def macs(self) -> Figure:
        """Figure of the multiply-accumulates, which counts convolutions and matrix products."""
        figure = self._figure("MACs", "macs", self.measurement.macs)
        comparable = self.measurement.input == self.network.shapes
        return figure if comparable else replace(figure, published="")

    def _figure(self, name: str, field: str, counted: int) -> Figure:
        published = self.network.published.get(f"{field}_published") or ""
        unit = UNITS.get(published[-1:], 1)
        if field == "params" and "2**20" in (self.network.published.get("params_unit") or ""):
            unit = 2.0**20
        if field == "macs" and self.network.convention == "thop/2^30":
            unit = 2.0**30
        return Figure(name, published, counted, unit)


def count(network: Network, *shapes: tuple[int, ...], **options: Any) -> Counted:
    """Count the parameters and MACs of a network on the meta device.

    Args:
        network: Description of the network.
        shapes: Shapes of the inputs; those of the published MACs by default. With other shapes,
            there are no published MACs to compare.
        options: Options of the backbone.

    >>> from regard.networks import show_network
    >>> count(show_network("eca_resnet50")).parameters
    Figure(name='parameters', published='24.37M', counted=25557112, unit=1048576.0)
    """
    model = build(network, "meta", None, options)
    inputs = tuple(_empty_input(shape) for shape in shapes or network.shapes)
    return Counted(network, measure(model, *inputs, latency=False, depth=0))


def _empty_input(shape: tuple[int, ...]) -> Tensor:
    """Return an input on the meta device: tokens if the shape is ``b n``, otherwise numbers."""
    dtype = torch.long if len(shape) == 2 else torch.float32
    return torch.empty(shape, dtype=dtype, device="meta")
