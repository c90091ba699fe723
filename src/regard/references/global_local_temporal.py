"""Global-local temporal attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Options, Reference, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State

BLOCK = "Nonlocal_block0"
PLANES = {f"feat{i + 1}": f"near.{i}" for i in range(3)}


def _equations(shapes: Shapes, d: int, alpha: int = 2) -> Options:
    steps = sum(name.startswith("dtp.") for name in shapes)
    return dict(
        channels=d,
        reduction=alpha,
        dilations=tuple(2**i for i in range(steps)),
        include_frames=False,
        activation="relu",
        norm=False,
    )


def _rows(state: dict[str, Tensor], module: nn.Module) -> State:
    """Reshape the weights of convolutions whose kernels are as wide as a frame's channels."""
    planes = {f"{name}.weight" for name in PLANES}
    return {name: t[:, 0].mT if name in planes else t for name, t in state.items()}


REFERENCES = (
    Reference(
        "ljn114514/GLTR",
        lambda d: dict(channels=d),
        {
            **PLANES,
            **{f"{BLOCK}.{name}": name for name in ("theta", "phi", "g")},
            f"{BLOCK}.W.0": "out",
            f"{BLOCK}.W.1": "norm",
        },
        adapt=_rows,
        map="b n m",
    ),
    Reference(
        "equations",
        _equations,
        {"dtp": "near", "q": "theta", "k": "phi", "v": "g", "w": "out"},
        map="b n m",
    ),
)
