"""Point-wise spatial attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.check import one_of
from .reading import rename
from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

MODES = ("collect", "distribute", "both")


def _authors(
    in_channels: int = 2048,
    mid_channels: int = 512,
    psa_type: int = 2,
    compact: bool = False,
    shrink_factor: int = 2,
    mask_h: int = 59,
    mask_w: int = 59,
    normalization_factor: float | None = 1.0,
    psa_softmax: bool = True,
) -> Options:
    one_of((0, 1, 2), psa_type=psa_type)
    divisor = mask_h * mask_w if normalization_factor is None else normalization_factor
    return dict(
        channels=in_channels,
        hidden_dim=mid_channels,
        mask_size=(mask_h, mask_w),
        mode=MODES[psa_type],
        absolute=compact,
        stride=shrink_factor,
        normalize=psa_softmax,
        divisor=float(divisor),
    )


def _branches(state: dict[str, Tensor], module: nn.Module) -> State:
    """Rename the layers of each direction; a single direction has the names of the first."""
    names: dict[str, str] = {}
    branches = module.get_submodule("branches")
    for (name, _), mark in zip(branches.named_children(), ("", "_p"), strict=False):
        names[f"reduce{mark}"] = f"branches.{name}.value"
        names[f"attention{mark}"] = f"branches.{name}.look"
        names[f"attention{mark}.3"] = f"branches.{name}.score"
    return rename(state, names)


REFERENCES = (
    Reference(
        "hszhao/semseg:PSA",
        _authors,
        {"proj.0": "project", "proj.1": "norm"},
        adapt=_branches,
        map="0: b m y x, 1: b m y x",
    ),
)
