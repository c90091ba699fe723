"""Mixed local channel attention in other people's code."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ..core.adaptive_kernel import adaptive_kernel
from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _learned(shapes: Shapes) -> list[str]:
    """Return the name of the learned weight: a single number beside the two kernels."""
    return [name for name, size in shapes.items() if prod(size) == 1 and "conv" not in name]


def _authors(
    shapes: Shapes,
    in_size: int,
    local_size: int = 5,
    gamma: float = 2,
    b: float = 1,
    local_weight: float = 0.5,
) -> Options:
    return dict(
        channels=in_size,
        kernel_size=adaptive_kernel(in_size, gamma, b),
        local_size=local_size,
        local_weight=local_weight,
        learn_weight=bool(_learned(shapes)),
    )


def _weight(state: dict[str, Tensor], module: nn.Module) -> State:
    learned = _learned({name: tuple(tensor.shape) for name, tensor in state.items()})
    return {"weight" if name in learned else name: t for name, t in state.items()}


REFERENCES = (
    Reference(
        "wandahangFY/MLCA",
        _authors,
        {"conv_local": "local", "conv": "whole"},
        adapt=_weight,
    ),
)
