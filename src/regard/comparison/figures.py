"""The plots of the report, as plotly's plain data; the page adds fonts and background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .results import Comparison, Row
from .statistics import mean_and_sd

# Okabe and Ito's colors, which color-blind readers can tell apart, on light and dark background.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#A6761D")
GRAY = "#8A8F98"

Figure = dict[str, Any]


def variant_colors(rows: Sequence[Row]) -> dict[str, str]:
    """Map the label of each variant to a color; those without attention are gray."""
    found, used = {}, 0
    for row in rows:
        plain = row.variant.mechanism is None or row.variant.control
        found[row.label] = GRAY if plain else COLORS[used % len(COLORS)]
        used += not plain
    return found


def make_figure(traces: list[dict[str, Any]], x: str, y: str, **layout: Any) -> Figure:
    """Return a plot with two named axes."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    for name in axes:
        axes[name] |= layout.pop(name, {})
    return {"data": traces, "layout": {"showlegend": False, **axes, **layout}}


def forest_plot(comparison: Comparison) -> Figure:
    """Plot the difference of each variant to the baseline: seeds, mean and interval."""
    colors = variant_colors(comparison.rows)
    rows = [row for row in comparison.rows if row.difference][::-1]
    traces: list[dict[str, Any]] = []
    distances = [0.5]
    for row in rows:
        difference = row.difference
        if difference is None:
            continue
        points = [100 * value for value in difference.values]
        mean, interval = 100 * difference.mean, difference.interval
        distances += map(abs, points)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": points,
                "y": [row.label] * len(points),
                "marker": {"symbol": "circle-open", "size": 8, "color": colors[row.label]},
                "hovertemplate": "%{y}, one seed: %{x:+.2f}<extra></extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [mean],
                "y": [row.label],
                "marker": {"symbol": "diamond", "size": 11, "color": colors[row.label]},
                "error_x": {
                    "visible": interval is not None,
                    "array": [100 * interval[1] - mean if interval else 0],
                    "color": colors[row.label],
                    "thickness": 2,
                },
                "hovertemplate": "%{y}, mean: %{x:+.2f}<extra></extra>",
            }
        )
    limit = 1.8 * max(distances)
    return make_figure(
        traces,
        "difference in accuracy, percentage points",
        "",
        xaxis={"range": [-limit, limit], "zeroline": True, "zerolinewidth": 2},
        yaxis={"automargin": True, "range": [-0.6, len(rows) - 0.4]},
        height=90 + 44 * len(rows),
    )


def accuracy_against_cost(comparison: Comparison, cost: str, title: str, scale: float) -> Figure:
    """Plot accuracy against one cost."""
    colors = variant_colors(comparison.rows)
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": row.label,
            "x": [getattr(row, cost) * scale],
            "y": [100 * row.mean],
            "marker": {
                "size": 12,
                "color": colors[row.label],
                "symbol": "square-open" if row.variant.control else "circle",
            },
            "error_y": {
                "visible": row.sd is not None,
                "array": [100 * (row.sd or 0)],
                "color": colors[row.label],
            },
            "hovertemplate": f"{row.label}<br>%{{x:.4g}}, %{{y:.2f}} %<extra></extra>",
        }
        for row in comparison.rows
    ]
    return make_figure(traces, title, "accuracy, %", height=320)


def learning_curves(comparison: Comparison, metric: str, title: str, scale: float = 1.0) -> Figure:
    """Plot a metric over the epochs: a thin line for each seed, a thick one for their mean."""
    colors = variant_colors(comparison.rows)
    traces: list[dict[str, Any]] = []
    for row in comparison.rows:
        seeds = [
            [scale * point[metric] for point in run["curve"]]
            for run in comparison.runs
            if run["variant"] == row.variant.key
        ]
        line = {"color": colors[row.label], "dash": "dot" if row.variant.control else "solid"}
        means = [mean_and_sd(values)[0] for values in zip(*seeds, strict=True)]
        epochs = list(range(1, comparison.recipe.epochs + 1))
        for values in seeds if len(seeds) > 1 else ():
            traces.append(_line(epochs, values, {**line, "width": 1}, opacity=0.35))
        hover = {"hovertemplate": f"{row.label}<br>epoch %{{x}}: %{{y:.3g}}<extra></extra>"}
        traces.append(_line(epochs, means, {**line, "width": 2.5}, mode="lines+markers", **hover))
    ticks = {"dtick": max(1, comparison.recipe.epochs // 10)}
    return make_figure(traces, "epoch", title, xaxis=ticks, height=340)


def _line(x: Sequence[int], y: Sequence[float], line: Mapping[str, Any], **more: Any) -> Figure:
    trace = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}
    return trace | more
