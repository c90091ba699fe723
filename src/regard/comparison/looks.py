"""Where each attention looks: heat maps as pictures, gates of channels as bars."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..explanation import AttentionMap, explain

FINE = 4  # rows and columns that a map should have to show a place in the image
PIXELS = 128
BARS = 64
FLAT = 0.1


@dataclass(frozen=True)
class Look:
    """One map of one variant over the sample images.

    Attributes:
        told: Where it is in the network, and what is drawn, in words.
        pictures: One for each image, as HTML.
    """

    told: str
    pictures: tuple[str, ...]


def looks(model: nn.Module, x: Tensor, images: Tensor, names: Sequence[str]) -> list[Look]:
    """Draw what the attentions of a trained model do, at the first place and the last that shows.

    Args:
        model: A variant.
        x: The images as the model takes them.
        images: The same as people see them, from 0 to 1.
        names: What is on them.
    """
    maps = [one for one in explain(model, x).values() if one.call == 0]
    whole = {one.path for one in maps if not one.part}
    maps = [one for one in maps if not one.part or one.path not in whole]
    places = [one for one in maps if one.spatial and one.grid and min(one.grid) > 1]
    if places := [one for one in places if one.grid and min(one.grid) >= FINE] or places[:1]:
        ends = {places[0].path, places[-1].path}
        return [_heat(one, images, names) for one in places if one.path in ends]
    bars = [one for one in maps if one.form == "bars"]
    return [_gates(one, names) for one in dict.fromkeys([*bars[:1], *bars[-1:]])]


def samples(images: Tensor, names: Sequence[str]) -> list[str]:
    """The images themselves, as HTML."""
    large = interpolate(images, (PIXELS, PIXELS), mode="nearest").movedim(1, -1)
    return [
        _picture(x.squeeze(-1), f"the image: {name}") for x, name in zip(large, names, strict=True)
    ]


def _heat(one: AttentionMap, images: Tensor, names: Sequence[str]) -> Look:
    from matplotlib import colormaps

    heat = one.heat((PIXELS, PIXELS))
    low, high = scale(heat)
    shade = (heat - low) / (high - low)
    color = torch.from_numpy(colormaps["inferno"](shade.numpy())[..., :3])
    gray = interpolate(images, (PIXELS, PIXELS), mode="bilinear").mean(1)
    mixed = 0.35 * gray[..., None] + 0.65 * color
    h, w = one.grid or (0, 0)
    return Look(
        f"{_place(one)}: {h} × {w} places, {low:.3g} (dark) to {high:.3g} (bright)",
        tuple(
            _picture(x, f"{name}: where {one.mechanism} looks at {_place(one)}")
            for x, name in zip(mixed, names, strict=True)
        ),
    )


def _gates(one: AttentionMap, names: Sequence[str]) -> Look:
    gates = one.tensor.float().flatten(1)
    low, high = scale(gates)
    shown = gates[:, :BARS]
    order = shown.mean(0).argsort(descending=True)  # the same for all images
    count = gates.shape[1]
    some = f"the first {BARS} of {count}" if count > BARS else f"{count}"
    return Look(
        f"{_place(one)}: gates of {some} channels, {low:.3g} (bottom) to {high:.3g} (top)",
        tuple(
            _bars(row, f"{name}: channel gates of {one.mechanism} at {_place(one)}")
            for row, name in zip((shown[:, order] - low) / (high - low), names, strict=True)
        ),
    )


def scale(values: Tensor) -> tuple[float, float]:
    """The values that are drawn darkest and brightest: those that nearly agree must look alike.

    >>> scale(torch.tensor([0.25, 0.75])), scale(torch.tensor([1.0, 1.0]))
    ((0.25, 0.75), (0.95, 1.05))
    """
    low, high = values.min().item(), values.max().item()
    more = max(0.0, FLAT * max(abs(low), abs(high), 1e-9) - (high - low)) / 2
    return low - more, high + more


def _place(one: AttentionMap) -> str:
    """The module that the attention follows, and the part of the map."""
    host = re.sub(r"\.?attention(_\d+)?(\.mechanism)?$", "", one.path) or "the whole model"
    return f"{host} [{one.part}]" if one.part else host


def _bars(heights: Tensor, alt: str) -> str:
    bars = "".join(
        f'<rect x="{i + 0.1}" y="{1 - height:.3f}" width="0.8" height="{height:.3f}"/>'
        for i, height in enumerate(heights.tolist())
    )
    return (
        f'<svg viewBox="0 0 {len(heights)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(alt)}">{bars}</svg>'
    )


def _picture(pixels: Tensor, alt: str) -> str:
    """An image, ``h w`` or ``h w 3`` from 0 to 1, within the page itself."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray((255 * pixels.clamp(0, 1)).byte().numpy()).save(file, "png")
    data = b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
