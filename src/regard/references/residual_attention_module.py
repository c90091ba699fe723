"""The residual attention module in other people's code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.check import one_of
from .reading import rename
from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

WIDTHS = {"A": 256, "B": 512, "C": 1024}  # channels of the authors' stages; each pools once less
UNIT = {
    "bn1": "norm",
    "conv1": "branch.0",
    "bn2": "branch.1",
    "conv2": "branch.3",
    "bn3": "branch.4",
    "conv3": "branch.6",
}


def _caffe(stage: str, channel_divisor: int = 1) -> Options:
    one_of(tuple(WIDTHS), stage=stage)
    return dict(channels=WIDTHS[stage] // channel_divisor, levels=3 - list(WIDTHS).index(stage))


def _from_caffe(state: dict[str, Tensor], module: nn.Module) -> State:
    """Rename the layers of a prototxt, in which norms are named after their inputs."""
    layers = [name.rpartition(".")[0] for name in state]
    own = next((n for n in layers if n.startswith("Attention")), "").partition("/")[0]
    # The input of the first norm is computed outside the module.
    first = next((n for n in layers if not n.startswith(f"{own}/")), "")
    levels = len(module.get_submodule("down"))  # type: ignore[arg-type]
    down, up = "mask/down_sample", "mask/up_sample"
    units = {
        "before": (None, "trunk/res1"),
        "trunk.0": ("trunk/res1", "trunk/res2"),
        "trunk.1": ("trunk/res2", "trunk/res3"),
        "bottom": (f"{down}/res{levels}_1", f"{down}/res{levels}_2"),
        "after": ("fusion", ""),
    }
    for i in range(1, levels + 1):
        units[f"down.{i - 1}"] = (f"{down}/pool{i}_3x3_s2", f"{down}/res{i}_1")
    for i in range(1, levels):
        units[f"beside.{i - 1}"] = (f"{down}/res{i}_1", f"mask/skip/res{i}")
        units[f"up.{i - 1}"] = (f"{up}{i}", f"{up}/res{i}_1")
    names = {
        f"{own}/{up}/interp_1/bn": "score.0",
        f"{own}/mask/linear_1": "score.2",
        f"{own}/mask/linear_1/bn": "score.3",
        f"{own}/mask/linear_2": "score.5",
    }
    parts = {"conv1_1x1": 0, "conv1_1x1/bn": 1, "conv2_3x3": 3, "conv2_3x3/bn": 4, "conv3_1x1": 6}
    for unit, (blob, called) in units.items():
        names[f"{own}/{blob}/bn" if blob else first] = f"{unit}.norm"
        branch = "/".join(filter(None, (own, called, "branch1")))
        names |= {f"{branch}/{part}": f"{unit}.branch.{i}" for part, i in parts.items()}
    return rename(state, names)


def _levels(shapes: Shapes) -> int:
    found = {int(n) for name in shapes for n in re.findall(r"^softmax(\d+)_blocks\.", name)}
    if not found:
        raise ValueError(
            "ResidualAttentionModule: of this re-implementation only the modules with "
            "softmax1_blocks, softmax2_blocks, … can be loaded (AttentionModule_stage1 to 3)"
        )
    return len(found) // 2


def _tengshaofeng(
    shapes: Shapes,
    in_channels: int,
    out_channels: int,
    size1: Sequence[int] | None = None,
    size2: Sequence[int] | None = None,
    size3: Sequence[int] | None = None,
) -> Options:
    if in_channels != out_channels:
        raise ValueError(
            "ResidualAttentionModule: its units are added to what they read, so in_channels "
            f"({in_channels}) must be out_channels ({out_channels})"
        )
    return dict(
        channels=in_channels, levels=_levels(shapes), ceil_mode=False, skip_connections=True
    )


def _from_blocks(state: dict[str, Tensor], module: nn.Module) -> State:
    """Rename the blocks of the mask, whose names depend on the number of levels."""
    levels = len(module.get_submodule("down"))  # type: ignore[arg-type]
    units = {
        "first_residual_blocks": "before",
        "trunk_branches.*": "trunk.*",
        f"softmax{levels}_blocks.0": f"down.{levels - 1}",
        f"softmax{levels}_blocks.1": "bottom",
        "last_blocks": "after",
    }
    for i in range(1, levels):
        units[f"softmax{i}_blocks"] = f"down.{i - 1}"
        units[f"skip{i}_connection_residual_block"] = f"beside.{i - 1}"
        units[f"softmax{2 * levels - i}_blocks"] = f"up.{i - 1}"
    names = {f"{unit}.{part}": f"{units[unit]}.{UNIT[part]}" for unit in units for part in UNIT}
    return rename(state, {**names, f"softmax{2 * levels}_blocks": "score"})


REFERENCES = (
    Reference(
        "fwang91/residual-attention-network",
        _caffe,
        adapt=_from_caffe,
        map="b c h w",
    ),
    Reference(
        "tengshaofeng/ResidualAttentionNetwork-pytorch",
        _tengshaofeng,
        unread=("*.conv4.*",),  # for the shortcuts, which are x itself in this module
        adapt=_from_blocks,
        map="b c h w",
    ),
)
