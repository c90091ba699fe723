"""Hamburger in other people's code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .record import Options, Reference

NONE: Mapping[str, Any] = MappingProxyType({})


def _authors(
    in_c: int,
    version: str = "V1",
    MD_S: int = 1,
    MD_D: int = 512,
    MD_R: int = 64,
    TRAIN_STEPS: int = 6,
    EVAL_STEPS: int = 7,
    CHEESE_FACTOR: int = 1,
) -> Options:
    if version not in ("V1", "V2"):
        raise ValueError(f"Hamburger: version must be V1 or V2 to be loaded, got {version!r}")
    return dict(
        channels=in_c,
        hidden_dim=MD_D,
        num_bases=MD_R,
        groups=MD_S,
        train_steps=TRAIN_STEPS,
        eval_steps=EVAL_STEPS,
        form="plain" if version == "V1" else "cheese",
        reduction=CHEESE_FACTOR if version == "V2" else 1,
    )


def _mmseg(
    ham_channels: int = 512, ham_kwargs: Mapping[str, Any] = NONE, norm_cfg: object = None
) -> Options:
    return dict(
        channels=ham_channels,
        num_bases=ham_kwargs.get("MD_R", 64),
        groups=ham_kwargs.get("MD_S", 1),
        train_steps=ham_kwargs.get("train_steps", ham_kwargs.get("TRAIN_STEPS", 6)),
        eval_steps=ham_kwargs.get("eval_steps", ham_kwargs.get("EVAL_STEPS", 7)),
        gradient="all",
    )


REFERENCES = (
    Reference(
        "Gsunshine/Enjoy-Hamburger:HamburgerV1",
        _authors,
        {"lower_bread.0": "before", "upper_bread.0": "after", "upper_bread.1": "norm"},
        fixed=dict(SPATIAL=True, DUAL=False),
    ),
    Reference(
        "Gsunshine/Enjoy-Hamburger:HamburgerV2",
        _authors,
        {
            "lower_bread.0": "before",
            "cheese.conv": "cheese.0",
            "cheese.bn": "cheese.1",
            "upper_bread": "after",
        },
        fixed=dict(SPATIAL=True, DUAL=False),
    ),
    Reference(
        "open-mmlab/mmsegmentation:Hamburger",
        _mmseg,
        {"ham_in.conv": "before", "ham_out.conv": "after", "ham_out.bn": "norm"},
    ),
)
