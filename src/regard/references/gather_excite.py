"""Gather-excite, as written from the authors' figures and prototxts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .reading import rename
from .record import Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

FORMS = {"theta-": "pool", "theta": "conv", "theta+": "mlp"}


def _equations(
    variant: str,
    channels: int,
    extent: int = 0,
    feat_size: Sequence[int] | None = None,
    reduction: int = 16,
) -> Options:
    whole = FORMS[variant] != "pool" and not extent
    return dict(
        channels=channels,
        extent=extent or None,
        form=FORMS[variant],
        input_size=feat_size if whole else None,
        reduction=reduction,
    )


def _from_zero(state: dict[str, Tensor], module: nn.Module) -> State:
    """Number the convolutions and norms from zero."""
    names = {f"gather.conv{i + 1}": f"gathers.{i}" for i in range(len(state))}
    names |= {f"gather.norm{i + 1}": f"norms.{i}" for i in range(len(state))}
    return rename(state, names)


REFERENCES = (
    Reference(
        "equations",
        _equations,
        {"mlp.fc1": "squeeze", "mlp.fc2": "excite"},
        adapt=_from_zero,
        map="b c y x",
    ),
)
