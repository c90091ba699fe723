"""Highway layers in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reading import rename
from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _caffe(
    num_output: int,
    kernel_size: int,
    transform_kernel_size: int | None = None,
    group: int = 1,
    bias_term: bool = True,
) -> Options:
    return dict(
        channels=num_output,
        kernel_size=kernel_size,
        gate_kernel_size=transform_kernel_size,
        groups=group,
        bias=bias_term,
    )


def _stack(options: Options) -> nn.Module:
    """Build one layer, or several in a sequence."""
    from torch import nn

    from ..mechanisms.highway import Highway

    layers = options.pop("layers")
    built = [Highway(kernel_size=None, **options) for _ in range(layers)]
    return built[0] if layers == 1 else nn.Sequential(*built)


def _unnumbered(state: dict[str, Tensor], module: nn.Module) -> State:
    """Remove the number of a single layer."""
    return rename(state, {"H.0": "layer", "T.0": "gate"}) if hasattr(module, "gate") else state


REFERENCES = (
    Reference(
        "flukeskywalker/highway-networks",
        _caffe,
        {"cell": "layer", "transform": "gate"},
        map="b c h w",
    ),
    Reference(
        "equations",
        lambda size, layers=1, activation="relu": dict(
            channels=size, layers=layers, activation=activation
        ),
        {"H.*": "*.layer", "T.*": "*.gate"},
        builds=_stack,
        adapt=_unnumbered,
        map="b c",
    ),
)
