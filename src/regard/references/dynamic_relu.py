"""Dynamic ReLU in other people's code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

PORTED = {"fc1": "squeeze", "fc2": "excite"}


def _released(
    shapes: Shapes,
    inp: int,
    oup: int,
    reduction: int = 4,
    lambda_a: float = 1.0,
    K2: bool = True,
    use_bias: bool = True,
    use_spatial: bool = False,
    init_a: Sequence[float] = (1.0, 0.0),
    init_b: Sequence[float] = (0.0, 0.0),
) -> Options:
    if inp != oup:  # the class then takes a second input
        raise ValueError(f"DYReLU: oup ({oup}) must equal inp ({inp}) to be loaded")
    functions = 2 if K2 else 1
    return dict(
        channels=inp,
        hidden_dim=shapes["fc.0.weight"][0],  # rounded there, by a rule of its own
        slopes=tuple(init_a)[:functions],
        intercepts=tuple(init_b)[:functions] if use_bias else None,
        slope_range=lambda_a,
        spatial=use_spatial,
    )


def _ported(channels: int, reduction: int, k: int, shared: bool) -> Options:
    return dict(
        channels=channels,
        reduction=reduction,
        slopes=(1.0, *[0.0] * (k - 1)),
        intercepts=(0.0,) * k,
        shared=shared,
        activation="sigmoid",
    )


def _function_major(state: dict[str, Tensor], module: nn.Module) -> State:
    """Order the last layer by functions, slopes and intercepts, channels: there it is reversed."""
    k, p, c = module.shape
    for name in ("fc2.weight", "fc2.bias"):
        rows = state[name].unflatten(0, (c, p, k))
        state[name] = rows.transpose(0, 2).flatten(0, 2)
    return state


REFERENCES = (
    Reference(
        "microsoft/DynamicHead:DYReLU",
        _released,
        {"fc.0": "squeeze", "fc.2": "excite", "spa.0": "look", "spa.1": "norm"},
        map="coefficients: b k_p_c 1 1",
    ),
    Reference(
        "Islanna/DynamicReLU:DyReLUB",
        lambda channels, reduction=4, k=2, conv_type="2d": _ported(channels, reduction, k, False),
        PORTED,
        unread=("lambdas", "init_v"),
        adapt=_function_major,
        map="coefficients: b c p_k",
    ),
    Reference(
        "Islanna/DynamicReLU:DyReLUA",
        lambda channels, reduction=4, k=2, conv_type="2d": _ported(channels, reduction, k, True),
        PORTED,
        unread=("lambdas", "init_v"),
        adapt=_function_major,
        map="coefficients: b p_k",
    ),
)
