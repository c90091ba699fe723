"""Class-specific residual attention in other people's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .record import Legacy, LegacyKeras, Options, Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .reading import State


def _xmu(channel: int = 512, num_class: int = 1000, la: float = 0.2) -> Options:
    return dict(
        channels=channel,
        num_classes=num_class,
        residual_weight=la,
        temperatures=("max",),
        normalize=False,
    )


def _xmu_keras(num_class: int = 1000, name: str = "ResidualAttention", la: float = 0.2) -> Options:
    return {**_xmu(1, num_class, la), "name": name}


def _heads(state: dict[str, Tensor], module: nn.Module) -> State:
    """Concatenate the classifiers of all heads."""
    import torch

    heads = [state.pop(f"multi_head.{i}.head.weight") for i in range(len(state))]
    return {"classify.weight": torch.cat(heads)}


REFERENCES = (
    Reference(
        "Kevinz-code/CSRA:CSRA",
        lambda input_dim, num_classes, T, lam: dict(
            channels=input_dim,
            num_classes=num_classes,
            residual_weight=lam,
            temperatures=("max" if T == 99 else T,),  # the authors' code writes 99 for the maximum
        ),
        {"head": "classify"},
        map="b k n",
    ),
    Reference(
        "Kevinz-code/CSRA:MHA",
        lambda num_heads, lam, input_dim, num_classes: dict(
            channels=input_dim, num_classes=num_classes, num_heads=num_heads, residual_weight=lam
        ),
        adapt=_heads,
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ResidualAttention",
        _xmu,
        {"fc": "classify"},
        sizes=lambda s: dict(channel=s["fc.weight"][1], num_class=s["fc.weight"][0]),
        legacy=Legacy(
            "attention.ResidualAttention",
            "channel=512, num_class=1000, la=0.2",
            keras=LegacyKeras(arguments=_xmu_keras),
        ),
    ),
)
