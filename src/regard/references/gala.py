"""Global-and-local attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reading import rename
from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

LAYER = "conv_ATTENTION_intermediate"


def _authors(
    c: int,
    r: int = 4,
    extra_convs: int = 1,
    extra_conv_size: int = 5,
    interaction: str = "both",
    squash: str = "sigmoid",
) -> Options:
    return dict(
        channels=c,
        reduction=r,
        kernel_sizes=[extra_conv_size] * extra_convs,
        interaction=interaction,
        gate_activation=squash,
    )


def _convolutions(state: dict[str, Tensor], module: nn.Module) -> State:
    """Number the convolutions in one sequence, with an activation after all but the last."""
    extra = sum(name.startswith(f"{LAYER}_") for name in state) // 2
    names = {f"{LAYER}_{i}": f"look.{2 + 2 * i}" for i in range(extra)}
    return rename(state, {**names, "conv_ATTENTION_output": f"look.{2 + 2 * extra}"})


REFERENCES = (
    Reference(
        "serre-lab/gala_tpu",
        _authors,
        {
            "fc_ATTENTION_intermediate": "squeeze",
            "fc_ATTENTION_output": "excite",
            LAYER: "look.0",
        },
        adapt=_convolutions,
        map="b c h w",
    ),
    Reference(
        "equations",
        lambda c, r=4: dict(
            channels=c, reduction=r, kernel_sizes=(), gate_activation="tanh", activation=None
        ),
        {
            "W1": "squeeze",
            "W2": "excite",
            "conv1": "look.0",
            "conv2": "look.2",
            "a": "alpha",
            "m": "beta",
        },
        map="b c h w",
    ),
)
