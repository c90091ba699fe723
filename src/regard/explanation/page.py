"""One page of maps in which a place can be picked: it needs no server and no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from io import BytesIO
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .drawing import merged, to_pictures
from .maps import AttentionMap
from .positions import Positions

LARGEST = 2**22  # entries of a map that the page holds whole; of a larger one it holds the mean
BARS = 512


def page(
    maps: Sequence[AttentionMap],
    image: Any,
    *,
    title: str = "Where the attention looks",
    rows: int = 4,
) -> str:
    """Return a page of HTML with all maps of some images.

    Args:
        maps: The maps.
        image: The images, as for `regard.explanation.drawing.draw`.
        title: Heading of the page.
        rows: Maximum number of images.

    Raises:
        ValueError: there is no image, or there are more maps than images.
    """
    if image is None:
        raise ValueError("a page of maps needs the image: pass image")
    shown = to_pictures(image)
    batch = max(len(one.tensor) for one in maps)
    if len(shown) not in (1, batch):
        raise ValueError(f"{len(shown)} images for maps of {batch}")
    rows = min(rows, batch)
    data = {
        "images": [_picture(shown[row % len(shown)]) for row in range(rows)],
        "maps": [[_map(one, row % len(one.tensor)) for one in merged(maps)] for row in range(rows)],
    }
    # In a script nothing may look like the end of one.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    template = Template(files("regard.explanation").joinpath("page.html").read_text("utf-8"))
    return template.substitute(title=escape(title), data=text)


def _picture(picture: Tensor) -> dict[str, Any]:
    from matplotlib.image import imsave

    buffer = BytesIO()
    values = picture.expand(*picture.shape[:2], 3) if picture.shape[-1] == 1 else picture
    imsave(buffer, values.numpy(), format="png")
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": source, "ratio": picture.shape[0] / picture.shape[1]}


def _map(one: AttentionMap, row: int) -> dict[str, Any]:
    part = f" [{one.part}]" if one.part else ""
    name = (one.path or one.mechanism) + part + (f" #{one.call}" if one.call else "")
    text = f"{one.mechanism} · {one.axes}"
    a = one.tensor.detach().float().cpu()[row]
    if not one.spatial:
        bars = a.flatten().sort(descending=True).values
        bars = bars[torch.linspace(0, len(bars) - 1, min(len(bars), BARS)).long()]
        text += f" · {a.min():.3g} to {a.max():.3g}, sorted"
        return {
            "kind": "bars",
            "name": name,
            "text": text,
            "bars": [round(v, 4) for v in bars.tolist()],
        }
    names = one.names[1:]
    small = one.keys is not None and a.numel() // max(1, _heads(a, names)) <= LARGEST
    if one.form != "pairs" or not small or one.keys is None or len(one.keys.grid) == 3:
        query = "all" if one.form == "pairs" else None
        heat = one.heat(query=query)[row].cpu()
        text += " · mean of all queries" if query else ""
        facts = {"kind": "plane", "keys": list(heat.shape), "values": _bytes(heat.flatten()[None])}
        return {"name": name, "text": text, **facts}
    while a.dim() > 2 + ("k" in names):
        dim = next(i for i, axis in enumerate(names) if axis not in ("k", "n", "m"))
        a = a.mean(dim)
        del names[dim]
    a = a.permute([names.index(axis) for axis in "knm" if axis in names])
    queries: Positions | None = one.queries
    facts = {
        "kind": "pairs",
        "windows": a.shape[0] if "k" in names else 1,
        "n": a.shape[-2],
        "m": a.shape[-1],
        "keys": list(one.keys.grid),
        "kplaces": _words(one.keys.index),
        "values": _bytes(a.reshape(-1, a.shape[-1])),
    }
    if queries is not None and len(queries.grid) == 2:
        facts |= {"queries": list(queries.grid), "qplaces": _words(queries.index)}
    return {"name": name, "text": text, **facts}


def _heads(a: Tensor, names: Sequence[str]) -> int:
    return a.shape[list(names).index("heads")] if "heads" in names else 1


def _bytes(rows: Tensor) -> str:
    """Return each row, as parts of its largest entry, in one byte each."""
    rows = rows.clamp(min=0)
    rows = 255 * rows / rows.amax(-1, keepdim=True).clamp(min=1e-30)
    return base64.b64encode(rows.round().to(torch.uint8).numpy().tobytes()).decode()


def _words(index: Tensor) -> str:
    return base64.b64encode(index.cpu().numpy().astype(np.int16).tobytes()).decode()
