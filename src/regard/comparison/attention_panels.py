"""What the trained attentions compute for sample images: heat maps, or bars for channel gates."""

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

MIN_GRID = 4  # fewest rows and columns at which a map is worth showing as an image
PIXELS = 128
MAX_BARS = 64
MIN_CONTRAST = 0.1


@dataclass(frozen=True)
class Panel:
    """One attention map of one variant, for every sample image.

    Attributes:
        label: Label of the variant.
        caption: Name of the module in the network, what is shown, and the range of values.
        pictures: One for each sample image, as HTML.
    """

    label: str
    caption: str
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """Sample images, and the attention maps that trained variants compute for them.

    Attributes:
        seed: Seed of the models.
        classes: Class of each image.
        images: The images, as HTML.
        panels: The maps, variant by variant.
    """

    seed: int
    classes: tuple[str, ...]
    images: tuple[str, ...]
    panels: tuple[Panel, ...]


def attention_panels(
    label: str, model: nn.Module, x: Tensor, images: Tensor, classes: Sequence[str]
) -> list[Panel]:
    """Show the first and the last attention map of a trained model that is fine enough.

    Args:
        label: Label of the variant.
        model: Its trained model.
        x: The images as the model takes them.
        images: The images without normalization, from 0 to 1.
        classes: Class of each image.
    """
    maps = [a for a in explain(model, x).values() if a.call == 0]
    whole = {a.path for a in maps if not a.part}
    maps = [a for a in maps if not a.part or a.path not in whole]
    spatial = [a for a in maps if a.spatial and a.grid and min(a.grid) > 1]
    if spatial := [a for a in spatial if a.grid and min(a.grid) >= MIN_GRID] or spatial[:1]:
        ends = {spatial[0].path, spatial[-1].path}
        return [_heat_map_panel(label, a, images, classes) for a in spatial if a.path in ends]
    gates = [a for a in maps if a.form == "bars"]
    return [_gate_panel(label, a, classes) for a in dict.fromkeys([*gates[:1], *gates[-1:]])]


def image_tags(images: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the sample images as HTML."""
    large = interpolate(images, (PIXELS, PIXELS), mode="nearest").movedim(1, -1)
    return tuple(
        _image_tag(x.squeeze(-1), f"the image: {name}")
        for x, name in zip(large, classes, strict=True)
    )


def _heat_map_panel(label: str, a: AttentionMap, images: Tensor, classes: Sequence[str]) -> Panel:
    from matplotlib import colormaps

    heat = a.heat((PIXELS, PIXELS))
    low, high = value_range(heat)
    shade = (heat - low) / (high - low)
    color = torch.from_numpy(colormaps["inferno"](shade.numpy())[..., :3])
    gray = interpolate(images, (PIXELS, PIXELS), mode="bilinear").mean(1)
    blend = 0.35 * gray[..., None] + 0.65 * color
    h, w = a.grid or (0, 0)
    return Panel(
        label,
        f"{_module_name(a)}: {h} × {w} positions, {low:.3g} (dark) to {high:.3g} (bright)",
        tuple(
            _image_tag(x, f"{name}: attention of {a.mechanism} at {_module_name(a)}")
            for x, name in zip(blend, classes, strict=True)
        ),
    )


def _gate_panel(label: str, a: AttentionMap, classes: Sequence[str]) -> Panel:
    gates = a.tensor.float().flatten(1)
    low, high = value_range(gates)
    shown = gates[:, :MAX_BARS]
    order = shown.mean(0).argsort(descending=True)  # one order for all images
    count = gates.shape[1]
    channels = f"the first {MAX_BARS} of {count}" if count > MAX_BARS else f"{count}"
    return Panel(
        label,
        f"{_module_name(a)}: gates of {channels} channels, {low:.3g} (bottom) to {high:.3g} (top)",
        tuple(
            _bar_chart(row, f"{name}: channel gates of {a.mechanism} at {_module_name(a)}")
            for row, name in zip((shown[:, order] - low) / (high - low), classes, strict=True)
        ),
    )


def value_range(values: Tensor) -> tuple[float, float]:
    """Return the values to show darkest and brightest, with a minimum contrast.

    >>> value_range(torch.tensor([0.25, 0.75])), value_range(torch.tensor([1.0, 1.0]))
    ((0.25, 0.75), (0.95, 1.05))
    """
    low, high = values.min().item(), values.max().item()
    margin = max(0.0, MIN_CONTRAST * max(abs(low), abs(high), 1e-9) - (high - low)) / 2
    return low - margin, high + margin


def _module_name(a: AttentionMap) -> str:
    """Return the name of the module that the attention follows, and the part of the map."""
    module = re.sub(r"\.?attention(_\d+)?(\.mechanism)?$", "", a.path) or "the whole model"
    return f"{module} [{a.part}]" if a.part else module


def _bar_chart(heights: Tensor, alt: str) -> str:
    bars = "".join(
        f'<rect x="{i + 0.1}" y="{1 - height:.3f}" width="0.8" height="{height:.3f}"/>'
        for i, height in enumerate(heights.tolist())
    )
    return (
        f'<svg viewBox="0 0 {len(heights)} 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(alt)}">{bars}</svg>'
    )


def _image_tag(pixels: Tensor, alt: str) -> str:
    """Return an image, ``h w`` or ``h w 3`` from 0 to 1, as an HTML tag that includes its data."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray((255 * pixels.clamp(0, 1)).byte().numpy()).save(file, "png")
    data = b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'
