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
from math import prod
from pathlib import Path
from typing import Any

import timm
import torch
from timm import layers
from timm.layers.cbam import CbamModule
from timm.layers.halo_attn import HaloAttn
from timm.models.volo import OutlookAttention
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, SqueezeExcitation

import regard
from regard.core.attention import Tap
from regard.measurement import peak_memory

Maker = Callable[[], nn.Module]
IMAGES = ((8, 256, 56, 56), (8, 64, 112, 112), (2, 512, 14, 14))
SIDES = (32, 64, 97)  # 97 is that of a Cityscapes crop at an eighth of its size


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


class Self(nn.Module):
    """A module that wants queries, keys and values, of a sequence or an image over itself."""

    def __init__(self, module: nn.Module, **options: Any) -> None:
        super().__init__()
        self.module, self.options = module, options

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT if x.dim() == 4 else x
        y = self.module(rows, rows, rows, **self.options)
        y = y if isinstance(y, Tensor) else y[0]
        return y.mT.unflatten(2, x.shape[2:]) if x.dim() == 4 else y


class ChannelsLast(nn.Module):
    """A module that wants the channels of an image last."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x.movedim(1, -1)).movedim(-1, 1)


class Sampled(nn.Module):
    """A modulated deformable convolution as torchvision leaves it to its user."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = DeformConv2d(c, c, 3, padding=1)
        self.offset = nn.Conv2d(c, 27, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        offset, mask = self.offset(x).split([18, 9], 1)
        return self.conv(x, offset, mask.sigmoid())


@dataclass(frozen=True)
class Row:
    """One mechanism at one size, ours and theirs."""

    key: str
    peer: str
    shape: tuple[int, ...]
    ours: Maker
    theirs: Maker

    @property
    def positions(self) -> int:
        """How many there are in one image or sequence."""
        return prod(self.shape[2:]) if len(self.shape) == 4 else self.shape[1]


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
        ("split_attention", "timm"): (
            lambda: regard.SplitAttention(c),
            lambda: layers.SplitAttn(c, norm_layer=nn.BatchNorm2d),
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
        "double_attention": (
            lambda: regard.DoubleAttention(c, residual=False),
            "A2Atttention:DoubleAttention",
            {"in_channels": c, "c_m": c // 4, "c_n": c // 4},
        ),
        "involution": (
            lambda: regard.Involution(c, 3, bias=True),
            "conv.Involution",
            {"kernel_size": 3, "in_channel": c, "group": c // 16},
        ),
        "parnet": (
            lambda: regard.ParNet(c, norm=False, bias=True),
            "ParNetAttention",
            {"channel": c},
        ),
        "polarized": (
            lambda: regard.Polarized(c, softmax="channels", transform="norm", bias=True),
            "PolarizedSelfAttention:ParallelPolarizedSelfAttention",
            {"channel": c},
        ),
        "cond_conv": (
            lambda: regard.CondConv(c, num_experts=4, bias=True),
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
    for side in SIDES:
        image, tokens = (1, 256, side, side), (1, side * side, 256)
        for (key, peer), makers in relations(256, side).items():
            found.append(Row(key, peer, image, *makers))
        for (key, peer), makers in sequences(256).items():
            found.append(Row(key, peer, tokens, *makers))
    return sorted(found, key=lambda row: row.key)


def relations(c: int, side: int) -> dict[tuple[str, str], tuple[Maker, Maker]]:
    """Ours and theirs for square images of c channels, where positions read positions."""
    found = {
        (key, "naive"): against_its_map(cls, c, **options)
        for key, cls, options in (
            ("non_local", regard.NonLocal, {"pool": None}),
            ("dual_attention", regard.DualAttention, {}),
            ("self_attention", regard.SelfAttention, {"pool": False}),
            ("object_context", regard.ObjectContext, {}),
            ("efficient_multi_head", regard.EfficientMultiHead, {"transform": False}),
        )
    }
    if side % 8 == 0:
        found["halo", "timm"] = (lambda: regard.Halo(c), lambda: HaloAttn(c))
    reduced = {"d_model": c, "d_k": c // 8, "d_v": c // 8, "h": 8, "H": side, "W": side}
    return found | {
        ("acmix", "fightingcv"): (
            lambda: regard.ACmix(c),
            partial(fightingcv, "ACmixAttention:ACmix", in_planes=c, out_planes=c),
        ),
        ("axial", "fightingcv"): (
            lambda: regard.Axial(c),
            partial(fightingcv, "Axial_attention:AxialAttention", dim=c, dim_index=1),
        ),
        ("outlook", "timm"): (
            lambda: regard.Outlook(c),
            lambda: ChannelsLast(OutlookAttention(c, 8)),
        ),
        ("criss_cross", "fightingcv"): (
            lambda: regard.CrissCross(c, recurrence=1),
            partial(fightingcv, "CrissCrossAttention", in_dim=c),
        ),
        ("deformable_conv", "torchvision"): (
            lambda: regard.DeformableConv(c, c, 3, padding=1),
            partial(Sampled, c),
        ),
        ("efficient_multi_head", "fightingcv"): (
            lambda: regard.EfficientMultiHead(c, 8, 2),
            lambda: Self(fightingcv("EMSA", ratio=2, dropout=0.0, **reduced)),
        ),
        ("global_context", "timm"): (
            lambda: regard.GlobalContext(c),
            lambda: layers.GlobalContext(c),
        ),
    }


def sequences(c: int) -> dict[tuple[str, str], tuple[Maker, Maker]]:
    """Ours and theirs for tokens of c channels."""
    heads = {"d_model": c, "d_k": c // 8, "d_v": c // 8, "h": 8, "dropout": 0.0}
    layer = {"dim_feedforward": 4 * c, "batch_first": True, "dropout": 0.0}
    return {
        ("external_attention", "fightingcv"): (
            lambda: regard.ExternalAttention(c),
            partial(fightingcv, "ExternalAttention", d_model=c, S=64),
        ),
        ("multi_head", "naive"): against_its_map(regard.MultiHead, c),
        ("multi_head", "naive, dropout"): against_its_map(regard.MultiHead, c, dropout=0.1),
        ("multi_head", "torch.nn"): (
            lambda: regard.MultiHead(c),
            lambda: Self(nn.MultiheadAttention(c, 8, batch_first=True), need_weights=False),
        ),
        ("multi_head", "fightingcv"): (
            lambda: regard.MultiHead(c),
            lambda: Self(fightingcv("SelfAttention:ScaledDotProductAttention", **heads)),
        ),
        ("simplified_attention", "naive"): against_its_map(regard.SimplifiedAttention, c),
        ("simplified_attention", "fightingcv"): (
            lambda: regard.SimplifiedAttention(c),
            lambda: Self(
                fightingcv(
                    "SimplifiedSelfAttention:SimplifiedScaledDotProductAttention",
                    d_model=c,
                    h=8,
                    dropout=0.0,
                )
            ),
        ),
        ("muse", "fightingcv"): (
            lambda: regard.MUSE(c, kernel_sizes=(1, 3, 5), filters="static"),
            lambda: Self(fightingcv("MUSEAttention", **heads)),
        ),
        ("mobilevitv2", "fightingcv"): (
            lambda: regard.MobileViTv2(c, activation=False),
            partial(fightingcv, "MobileViTv2Attention", d_model=c),
        ),
        ("ufo", "fightingcv"): (
            lambda: regard.UFO(c),
            lambda: Self(fightingcv("UFOAttention", **heads)),
        ),
        ("transformer_encoder", "torch.nn"): (
            lambda: regard.TransformerEncoder(c, 8, layers=1, dropout=0.0),
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(c, 8, **layer), 1),
        ),
    }


def against_its_map(cls: type[nn.Module], c: int, **options: Any) -> tuple[Maker, Maker]:
    """A mechanism of c channels, as it is and with its map built."""
    return partial(cls, c, **options), lambda: Naive(cls(c, **options))


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
        turns = rounds if row.positions < SIDES[-1] ** 2 else max(rounds // 3, 3)
        for backward in (False, True):
            low, middle, high = ratio(row, device, turns, backward=backward)
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
