"""Figures of attention maps: heat maps over the image, sampling grids, bars of channel gates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .maps import AttentionMap, Query

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 2.3  # side of a panel, in inches
LETTERS = 34  # length of a title that fits above a panel at full size
LINES = 12  # most lines of a sampling grid in each direction
MARGIN = 0.1  # part of the image's size, shown around it for sampling points outside


def draw(
    maps: Sequence[AttentionMap],
    image: Any = None,
    *,
    query: Query | None = None,
    rows: int = 4,
    columns: int = 5,
    stretch: bool = True,
) -> Figure:
    """Draw attention maps, a block of panels for each image.

    Heat maps are drawn over the image, with a mark at the query if there is one. Sampling grids
    show the positions that the mechanism reads. Channel gates are bars; other maps without
    positions are matrices. A map by rows and one by columns are drawn as their product.

    Args:
        maps: The maps from `explain`.
        image: ``b c h w``, one image, or an array with channels last; any range of values.
        query: The query, for maps between positions; see `AttentionMap.heat`.
        rows: Maximum number of images.
        columns: Maximum number of panels side by side.
        stretch: Spread the colors from the least to the greatest value, unless they are within one
            percent of each other, instead of over the range that the map can have.

    Returns:
        A matplotlib figure: ``figure.savefig("maps.png")``.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are more maps than images, or there is nothing to draw.
    """
    try:
        import matplotlib.figure  # noqa: F401  # only a missing matplotlib gets the message below

        from .picture import Picture
    except ImportError as e:
        raise ImportError('figures need matplotlib: pip install "regard[compare]"') from e
    panels = merged(maps)
    if not panels or min(rows, columns) < 1:
        raise ValueError(f"nothing to draw: {len(panels)} maps, {rows} rows, {columns} columns")
    pictures = None if image is None else to_pictures(image)
    batch = max(len(one.tensor) for one in panels)
    if pictures is not None and len(pictures) not in (1, batch):
        raise ValueError(f"{len(pictures)} images for maps of {batch}")
    shown = min(rows, batch)
    first = 0 if pictures is None else 1
    across = min(columns, len(panels) + first)
    lines = math.ceil((len(panels) + first) / across)
    ratio = 1.0 if pictures is None else pictures.shape[1] / pictures.shape[2]
    size = (SIDE * 1.15 * across, (SIDE * ratio + 0.55) * lines * shown)
    figure = Picture(figsize=size, layout="constrained")
    grid = figure.subplots(lines * shown, across, squeeze=False)
    for row in range(shown):
        block = grid[row * lines : (row + 1) * lines].flat
        picture = None if pictures is None else pictures[row % len(pictures)]
        if picture is not None:
            axes = next(block)
            _show(axes, picture)
            axes.set_title("input", fontsize=8)
        for one in panels:
            _panel(next(block), one, row % len(one.tensor), picture, query, stretch)
        for axes in block:
            axes.set_axis_off()
    return figure


def to_pictures(image: Any) -> Tensor:
    """Convert images to ``b h w c``, each scaled to the range from 0 to 1."""
    import numpy as np

    x = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    x = x.detach().cpu().float()
    if not isinstance(image, Tensor):
        x = (x.unsqueeze(-1) if x.dim() == 2 else x).movedim(-1, -3)
    if x.dim() == 3:
        x = x.unsqueeze(0)
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"expected images (b c h w) with 1 or 3 channels, got {tuple(x.shape)}")
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return ((x - low) / (high - low).clamp(min=1e-12)).movedim(1, -1)


def merged(maps: Sequence[AttentionMap]) -> list[AttentionMap]:
    """Replace pairs of maps, by rows and by columns, by their products."""
    merged: list[AttentionMap] = []
    for one in maps:
        before = merged[-1] if merged else None
        if (
            before
            and (before.path, before.call) == (one.path, one.call)
            and (before.names[-2:], one.names[-2:]) == (["h", "1"], ["1", "w"])
        ):
            axes = " ".join([*one.names[:-2], "h", "w"])
            part = f"{before.part} × {one.part}"
            merged[-1] = replace(one, tensor=before.tensor * one.tensor, axes=axes, part=part)
        else:
            merged.append(one)
    return merged


def _limits(one: AttentionMap, a: Tensor, *, stretch: bool) -> dict[str, float]:
    """Return the values at the ends of the color scale."""
    low, high = a.min().item(), a.max().item()
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    elif not (stretch and high - low > 0.01 * max(abs(low), abs(high))):
        if one.range == "unit":
            low, high = 0.0, 1.0
        elif one.normalized:
            low = 0.0
    return {"vmin": low, "vmax": high}


def _panel(
    axes: Axes,
    one: AttentionMap,
    row: int,
    picture: Tensor | None,
    query: Query | None,
    stretch: bool,
) -> None:
    path = (one.path or "(root)") + (f"#{one.call}" if one.call else "")
    text = " · ".join(filter(None, (one.part, one.mechanism, one.axes)))
    size = 8 * min(1.0, LETTERS / max(len(path), len(text)))
    axes.set_title(f"{path}\n{text}", fontsize=size)
    axes.tick_params(labelsize=6)
    if one.spatial:
        _draw_heat(axes, one, row, picture, query, stretch)
    elif one.form == "sampling":
        _draw_sampling(axes, one.tensor[row].detach().cpu(), picture)
    elif one.form == "points":
        _draw_points(axes, one, row, picture, query)
    else:
        axes.set_box_aspect(1.0 if picture is None else picture.shape[0] / picture.shape[1])
        (_draw_bars if one.form == "bars" else _draw_matrix)(axes, one, row, stretch)


def _show(axes: Axes, picture: Tensor, **options: Any) -> None:
    axes.imshow(picture.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, **options)
    axes.set_xticks([])
    axes.set_yticks([])


def _scale(axes: Axes, drawn: Any, limits: dict[str, float]) -> None:
    """Add a color bar with ticks at the ends and the middle, whose labels have a fixed width."""
    low, high = limits.values()
    ticks = [low, (low + high) / 2, high]
    beside = axes.inset_axes((1.03, 0, 0.045, 1))
    bar = axes.figure.colorbar(drawn, cax=beside, ticks=ticks)
    bar.ax.set_yticklabels([f"{tick:<8.3g}" for tick in ticks], fontsize=6, family="monospace")
    bar.solids.set_alpha(1.0)


def _draw_heat(
    axes: Axes,
    one: AttentionMap,
    row: int,
    picture: Tensor | None,
    query: Query | None,
    stretch: bool,
) -> None:
    own = one.heat(query=query)
    size = tuple(own.shape[1:]) if picture is None else tuple(picture.shape[:2])
    heat = one.heat(size, query=query).cpu()
    limits = _limits(one, heat, stretch=stretch)
    cmap = "coolwarm" if limits["vmin"] < 0 else "inferno"
    if picture is not None:
        _show(axes, picture.mean(-1))
    alpha = 1.0 if picture is None else 0.6
    _scale(axes, axes.imshow(heat[row].numpy(), cmap=cmap, alpha=alpha, **limits), limits)
    axes.set_xticks([])
    axes.set_yticks([])
    if one.keys is not None and one.queries is not None and query != "all":
        at = int(one.queries.index.flatten()[one.position(query) % one.queries.index.numel()])
        h, w = one.queries.grid[-2:]
        if at >= 0:
            _mark(axes, (at // w % h + 0.5) / h * size[0], (at % w + 0.5) / w * size[1])
    elif one.form == "pairs" and query != "all" and one.grid:
        h, w = one.grid
        n = one.tensor.shape[one.names.index("n")]
        at = one.position(query) - (n - h * w)
        if at >= 0:  # else the query is a token without a position in the image
            _mark(axes, (at // w + 0.5) / h * size[0], (at % w + 0.5) / w * size[1])


def _mark(axes: Axes, y: float, x: float) -> None:
    """Mark the query."""
    axes.plot(x - 0.5, y - 0.5, "o", ms=7, mfc="none", mec="black", mew=2.6)
    axes.plot(x - 0.5, y - 0.5, "o", ms=7, mfc="none", mec="cyan", mew=1.4)


def _draw_sampling(axes: Axes, points: Tensor, picture: Tensor | None) -> None:
    """Draw lines through the points (-1 to 1) that rows and columns of the output are read from."""
    h, w = points.shape[:2]
    height, width = (h, w) if picture is None else picture.shape[:2]
    if picture is not None:
        _show(axes, picture)
    x = ((points[..., 0] + 1) * width / 2 - 0.5).numpy()
    y = ((points[..., 1] + 1) * height / 2 - 0.5).numpy()
    for i in torch.linspace(0, h - 1, min(h, LINES)).round().int().tolist():
        axes.plot(x[i], y[i], color="cyan", lw=0.8)
    for j in torch.linspace(0, w - 1, min(w, LINES)).round().int().tolist():
        axes.plot(x[:, j], y[:, j], color="cyan", lw=0.8)
    axes.set_aspect("equal")
    axes.set_xlim(-0.5 - MARGIN * width, width - 0.5 + MARGIN * width)
    axes.set_ylim(height - 0.5 + MARGIN * height, -0.5 - MARGIN * height)
    axes.set_facecolor("#dddddd")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_points(
    axes: Axes, one: AttentionMap, row: int, picture: Tensor | None, query: Query | None
) -> None:
    """Draw where a query reads, in all heads; the area of a point is its weight."""
    dim = one.names.index("n") - 1 if "n" in one.names else None
    a, where = one.tensor[row].detach().float(), one.points
    assert where is not None
    where = where[row].float()
    if dim is not None:
        n = a.shape[dim]
        index = query if isinstance(query, int) else n // 2
        if not 0 <= index < n:
            raise ValueError(f"{one.key}: no query {query!r}; there are 0 to {n - 1}")
        a, where = a.select(dim, index), where.select(dim, index)
    height, width = (1, 1) if picture is None else picture.shape[:2]
    if picture is not None:
        _show(axes, picture.mean(-1))
    weight, (x, y) = a.flatten().cpu(), where.flatten(0, -2).cpu().unbind(-1)
    x, y = (x + 1) * width / 2 - 0.5, (y + 1) * height / 2 - 0.5
    size = 160 * weight / weight.max().clamp(min=1e-12)
    axes.scatter(x.numpy(), y.numpy(), s=size.numpy(), c="cyan", edgecolors="black", linewidths=0.4)
    axes.set_aspect("equal")
    axes.set_xlim(-0.5 - MARGIN * width, width - 0.5 + MARGIN * width)
    axes.set_ylim(height - 0.5 + MARGIN * height, -0.5 - MARGIN * height)
    axes.set_facecolor("#dddddd")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_bars(axes: Axes, one: AttentionMap, row: int, stretch: bool) -> None:
    """Draw one bar for each entry, always from zero, because a truncated bar would mislead."""
    values = one.tensor[row].detach().float().flatten().cpu()
    low, high = _limits(one, one.tensor.detach().float(), stretch=False).values()
    axes.bar(range(len(values)), values.numpy(), width=1.0, color="#35608d")
    axes.axhline(values.mean().item(), color="#d95f02", lw=1)
    axes.set_ylim(min(low, 0.0), max(high, 0.0) or 1.0)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_matrix(axes: Axes, one: AttentionMap, row: int, stretch: bool) -> None:
    """Draw the last two axes that are longer than one, averaged over those before."""
    sized = zip(one.names[1:], one.tensor.shape[1:], strict=True)
    names = [name for name, size in sized if size > 1]
    a = one.tensor[row].detach().float().cpu().squeeze()
    while a.dim() > 2:
        a, names = a.mean(0), names[1:]
    limits = _limits(one, a, stretch=stretch)
    cmap = "coolwarm" if limits["vmin"] < 0 else "inferno"
    drawn = axes.imshow(a.numpy(), cmap=cmap, aspect="auto", interpolation="nearest", **limits)
    _scale(axes, drawn, limits)
    axes.locator_params(integer=True, nbins=5)
    axes.set_ylabel(names[0], fontsize=7)
    axes.set_xlabel(names[1], fontsize=7)
