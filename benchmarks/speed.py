"""Our mechanisms against the same ones elsewhere, as ratios: ``python benchmarks/speed.py``.

Machines are noisy, so no time is reported alone: ours and theirs take turns in one process, every
turn gives a ratio, and the table shows their median and quartiles. Above 1, ours is faster, or
smaller. Where a library has no counterpart, the formula written out plainly (``naive``) is theirs.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from timm import layers
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

import regard
from regard.core.attention import Tap
from regard.measurement import peak_memory

Maker = Callable[[], nn.Module]
IMAGES = ((8, 256, 56, 56), (8, 64, 112, 112), (2, 512, 14, 14))


class Naive(nn.Module):
    """A mechanism of ours that has to build its map: the formula as the paper writes it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        for part in module.modules():
            if isinstance(part, Tap):
                part.register_forward_hook(lambda tap, args, a: None)

    def forward(self, *x: Tensor) -> Tensor:
        return self.module(*x)


class SelfMultiHead(nn.Module):
    """`torch.nn.MultiheadAttention` of a sequence over itself."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.MultiheadAttention(256, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x, x, x, need_weights=False)[0]


@dataclass(frozen=True)
class Row:
    """One mechanism at one size, ours and theirs."""

    key: str
    peer: str
    shape: tuple[int, ...]
    ours: Maker
    theirs: Maker


def pairs(c: int) -> dict[tuple[str, str], tuple[Maker, Maker]]:
    """Ours and theirs for images of c channels, with the same mathematics or nearly so."""
    r = c // 16
    found: dict[tuple[str, str], tuple[Maker, Maker]] = {
        ("squeeze_excitation", "timm"): (
            lambda: regard.SqueezeExcitation(c, bias=True),
            lambda: layers.SEModule(c, rd_channels=r),
        ),
        ("squeeze_excitation", "torchvision"): (
            lambda: regard.SqueezeExcitation(c, bias=True),
            lambda: SqueezeExcitation(c, r),
        ),
        ("eca", "timm"): (lambda: regard.ECA(c), lambda: layers.EcaModule(c)),
        ("cbam", "timm"): (
            lambda: regard.CBAM(c),
            lambda: CbamModule(c, rd_channels=r, mlp_bias=True),
        ),
        ("selective_kernel", "timm"): (
            lambda: regard.SelectiveKernel(c),
            lambda: layers.SelectiveKernel(c, groups=32, rd_channels=max(r, 32), split_input=False),
        ),
    }
    full = {"kernels": (1, 3, 5, 7), "groups": 1, "dilate": False}
    conv = {"kernel_size": 3, "stride": 1, "padding": 1}
    peers: dict[str, tuple[Maker, str, dict[str, Any]]] = {
        "squeeze_excitation": (lambda: regard.SqueezeExcitation(c), "SEAttention", {"channel": c}),
        "eca": (lambda: regard.ECA(c, 3, bias=True), "ECAAttention", {}),
        "cbam": (
            lambda: regard.CBAM(c, bias=False, norm=False),
            "CBAM:CBAMBlock",
            {"channel": c, "kernel_size": 7},
        ),
        "simam": (lambda: regard.SimAM(c), "SimAM", {}),
        "coordinate": (
            lambda: regard.Coordinate(c),
            "CoordAttention:CoordAtt",
            {"inp": c, "oup": c},
        ),
        "selective_kernel": (
            lambda: regard.SelectiveKernel(c, **full),
            "SKAttention",
            {"channel": c},
        ),
        "triplet": (lambda: regard.Triplet(c), "TripletAttention", {}),
        "spatial_group_enhance": (
            lambda: regard.SpatialGroupEnhance(c, 8),
            "SGE:SpatialGroupEnhance",
            {"groups": 8},
        ),
        "shuffle_attention": (
            lambda: regard.ShuffleAttention(c, 8),
            "ShuffleAttention",
            {"channel": c, "G": 8},
        ),
        "class_residual": (
            lambda: regard.ClassResidual(c, 1000, temperatures=("max",), normalize=False),
            "ResidualAttention",
            {"channel": c, "num_class": 1000},
        ),
        "cond_conv": (
            lambda: regard.CondConv(c, experts=4, bias=True),
            "conv.CondConv",
            {"in_planes": c, "out_planes": c, **conv},
        ),
        "dynamic_conv": (
            lambda: regard.DynamicConv(c),
            "conv.DynamicConv",
            {"in_planes": c, "out_planes": c, **conv},
        ),
    }
    for key, (ours, where, options) in peers.items():
        found[key, "fightingcv"] = ours, partial(fightingcv, where, **options)
    return found


def fightingcv(where: str, **options: Any) -> nn.Module:
    """A module of the package fightingcv-attention: its file, and its class if called otherwise."""
    file, _, name = where.partition(":")
    module = file if "." in file else f"attention.{file}"
    name = name or file.rpartition(".")[2]
    return getattr(import_module(f"fightingcv_attention.{module}"), name)(**options)


def rows() -> list[Row]:
    """Everything that is compared."""
    found = [
        Row(*names, shape, *makers) for shape in IMAGES for names, makers in pairs(shape[1]).items()
    ]
    for side in (32, 64):
        image, tokens = (1, 256, side, side), (1, side * side, 256)
        found += [
            Row("non_local", "naive", image, *against_its_map(regard.NonLocal, pool=None)),
            Row("dual_attention", "naive", image, *against_its_map(regard.DualAttention)),
            Row("multi_head", "naive", tokens, *against_its_map(regard.MultiHead)),
            Row("multi_head", "torch.nn", tokens, lambda: regard.MultiHead(256), SelfMultiHead),
        ]
    return sorted(found, key=lambda row: row.key)


def against_its_map(cls: type[nn.Module], **options: Any) -> tuple[Maker, Maker]:
    """A mechanism of 256 channels, as it is and with its map built."""
    return partial(cls, 256, **options), lambda: Naive(cls(256, **options))


def seconds(module: nn.Module, x: Tensor, *, backward: bool) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        y = module(x)
        if backward:
            y.sum().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def ratio(row: Row, device: str, rounds: int, *, backward: bool) -> tuple[float, float, float]:
    """Theirs over ours: the median of so many turns, and the quartiles."""
    ours, theirs = (make().to(device).train(backward) for make in (row.ours, row.theirs))
    x = torch.randn(row.shape, device=device, requires_grad=backward)
    for module in (ours, theirs):
        seconds(module, x, backward=backward)
    turns = []
    for _ in range(rounds):
        mine = seconds(ours, x, backward=backward)
        turns.append(seconds(theirs, x, backward=backward) / mine)
    low, middle, high = statistics.quantiles(turns, n=4)
    return low, middle, high


def table(rounds: int, device: str, only: str) -> str:
    """Measure everything, as a Markdown table."""
    lines = [
        "| mechanism | against | input | forward | forward + backward | peak memory |",
        "|---|---|---|---:|---:|---:|",
    ]
    middles = []
    for row in rows():
        if only not in row.key:
            continue
        cells = []
        for backward in (False, True):
            low, middle, high = ratio(row, device, rounds, backward=backward)
            cells.append(f"{middle:.2f} ({low:.2f}-{high:.2f})")
            middles.append(middle)
        x = torch.randn(row.shape, device=device)
        peaks = [peak_memory(make().to(device), x) for make in (row.ours, row.theirs)]
        cells.append(f"{peaks[1] / peaks[0]:.2f}")
        size = "×".join(map(str, row.shape))
        lines.append(f"| {row.key} | {row.peer} | {size} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    lines.append(f"\nGeometric mean of the times: {statistics.geometric_mean(middles):.2f}")
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default="", help="a part of a mechanism's key")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/RESULTS.md"))
    given = parser.parse_args()
    device = torch.cuda.get_device_name() if given.device == "cuda" else platform.machine()
    about = (
        f"Measured on {date.today():%Y-%m-%d}: torch {torch.__version__}, timm {timm.__version__}, "
        f"{device}, {torch.get_num_threads()} threads; {given.rounds} turns each.\n"
        "Theirs over ours: above 1, ours is faster or smaller; quartiles in brackets.\n"
    )
    rows = table(given.rounds, given.device, given.only)
    given.out.write_text(f"# Speed and memory, as ratios\n\n{about}\n{rows}\n")
    print(f"\nwritten to {given.out}")


if __name__ == "__main__":
    main()
