"""The 2D selective scan in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

FORMS = {"v0": True, "v0seq": True, "v05": True, "v05_noz": False, "v05noz": False}
STACKED = {
    "x_proj_weight": "select",
    "x_proj.weight": "select",
    "dt_projs_weight": "step",
    "dt_projs.weight": "step",
    "dt_projs_bias": "step_bias",
    "A_logs": "log_decay",
    "Ds": "skip",
}


def _arguments(
    d_model: int = 96,
    d_state: int = 16,
    ssm_ratio: float = 2.0,
    dt_rank: int | str = "auto",
    d_conv: int = 3,
    conv_bias: bool = True,
    bias: bool = False,
    forward_type: str = "v2",
) -> Options:
    if forward_type not in FORMS:
        known = ", ".join(FORMS)
        raise ValueError(f"SS2D: forward_type must be one of {known}, got {forward_type!r}")
    return dict(
        channels=d_model,
        state_dim=d_state,
        expansion=ssm_ratio,
        rank=None if isinstance(dt_rank, str) else dt_rank,
        kernel_size=d_conv,
        conv_bias=conv_bias or (forward_type.startswith("v0") and forward_type[:3] != "v05"),
        bias=bias,
        gate=FORMS[forward_type],
    )


def _stacked(state: dict[str, Tensor], module: nn.Module) -> State:
    """Give the weights of the four directions an axis of their own."""
    return {
        name: t.reshape(module.get_parameter(STACKED[name]).shape) if name in STACKED else t
        for name, t in state.items()
    }


REFERENCES = (
    Reference(
        "MzeroMiko/VMamba:SS2D",
        _arguments,
        {
            "in_proj": "project",
            "conv2d": "local",
            "out_norm": "norm",
            "out_proj": "out",
            **STACKED,
        },
        ignored=("channel_first", "act_layer", "initialize", "dt_min", "dt_max", "dropout"),
        adapt=_stacked,
    ),
)
