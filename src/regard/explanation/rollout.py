"""What the output of a whole network attends to, from the maps of all its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from .maps import AttentionMap

Heads = Literal["mean", "max", "min"]


def rollout(
    maps: Mapping[str, AttentionMap],
    slopes: Mapping[str, Tensor] | None = None,
    *,
    heads: Heads = "mean",
) -> AttentionMap:
    r"""Multiply the maps of successive layers, each with its shortcut.

    Without gradients it is attention rollout, :math:`R_l = \tfrac12 (A_l + I)\,R_{l-1}`, with the
    heads of :math:`A_l` averaged (Abnar and Zuidema, "Quantifying Attention Flow in Transformers",
    ACL 2020). It knows neither the values nor the layers between, and is the same for every class.
    With gradients of a score it is :math:`R_l = R_{l-1} + \bar A_l R_{l-1}`,
    :math:`\bar A_l = \operatorname{mean}_h (\nabla A_l \odot A_l)^+` (Chefer, Gur and Wolf,
    "Generic Attention-model Explainability", ICCV 2021). :math:`R_0 = I`.

    Args:
        maps: Maps between the same tokens, ``b heads n m``, in the order of the layers.
        slopes: The gradients of a score with respect to the maps, by key.
        heads: How the heads are reduced without gradients.

    Returns:
        The map ``b n m`` from the tokens of the last layer to those of the first.

    Raises:
        ValueError: there is no chain of maps between the same tokens.
    """
    if heads not in ("mean", "max", "min"):
        raise ValueError(f"heads: expected 'mean', 'max' or 'min', got {heads!r}")
    chain = dict(_chain(maps))
    if not chain:
        shapes = ", ".join(f"{key} ({one.axes})" for key, one in list(maps.items())[:5])
        raise ValueError(
            "rollout needs maps between the same tokens (b heads n m) in all layers; "
            f"got {shapes}; explain(..., only=...) chooses layers"
        )
    first, last = (list(chain.values())[i] for i in (0, -1))
    result: Tensor | None = None
    for key, one in chain.items():
        a = one.tensor.detach().float()
        same = torch.eye(a.shape[-1], device=a.device)
        if slopes is not None:
            a = (slopes[key].float() * a).clamp(min=0).mean(1)
            step = same + a
        else:
            a = a.mean(1) if heads == "mean" else a.amax(1) if heads == "max" else a.amin(1)
            step = a + same
            step = step / step.sum(-1, keepdim=True)
        result = step if result is None else step @ result
    return replace(
        last,
        path="",
        part="rollout",
        call=0,
        mechanism="rollout",
        axes="b n m",
        tensor=result,
        range="real" if slopes is not None else "softmax",
        grid=last.grid,
        keys=first.keys,
        source=None,
    )


def _chain(maps: Mapping[str, AttentionMap]) -> Iterable[tuple[str, AttentionMap]]:
    """Yield the maps between tokens, if all are of the same tokens."""
    found = {
        key: one
        for key, one in maps.items()
        if one.names in (["b", "heads", "n", "m"], ["b", "i", "n", "m"])
    }
    shapes = {(one.tensor.shape[0], *one.tensor.shape[2:]) for one in found.values()}
    square = all(one.tensor.shape[-1] == one.tensor.shape[-2] for one in found.values())
    return found.items() if len(shapes) == 1 and square and len(found) == len(maps) else ()
