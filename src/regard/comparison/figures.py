"""The plots of the report, as plotly reads them: plain data, colored by the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .results import Comparison, Row
from .statistics import mean_and_sd

# Okabe and Ito's colors: told apart by everybody, and on light and dark ground.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#A6761D")
GRAY = "#8A8F98"

Figure = dict[str, Any]


def colors(rows: Sequence[Row]) -> dict[str, str]:
    """A color for each variant; what has no attention is gray."""
    found, used = {}, 0
    for row in rows:
        plain = row.variant.mechanism is None or row.variant.control
        found[row.label] = GRAY if plain else COLORS[used % len(COLORS)]
        used += not plain
    return found


def figure(traces: list[dict[str, Any]], x: str, y: str, **layout: Any) -> Figure:
    """A plot with two named axes."""
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    for name in axes:
        axes[name] |= layout.pop(name, {})
    return {"data": traces, "layout": {"showlegend": False, **axes, **layout}}


def forest(comparison: Comparison) -> Figure:
    """The difference of each variant to the baseline: seeds, mean and interval."""
    tint = colors(comparison.rows)
    rows = [row for row in comparison.rows if row.difference][::-1]
    traces: list[dict[str, Any]] = []
    spread = [0.5]
    for row in rows:
        difference = row.difference
        if difference is None:
            continue
        points = [100 * value for value in difference.values]
        mean, interval = 100 * difference.mean, difference.interval
        spread += map(abs, points)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": points,
                "y": [row.label] * len(points),
                "marker": {"symbol": "circle-open", "size": 8, "color": tint[row.label]},
                "hovertemplate": "%{y}, one seed: %{x:+.2f}<extra></extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [mean],
                "y": [row.label],
                "marker": {"symbol": "diamond", "size": 11, "color": tint[row.label]},
                "error_x": {
                    "visible": interval is not None,
                    "array": [100 * interval[1] - mean if interval else 0],
                    "color": tint[row.label],
                    "thickness": 2,
                },
                "hovertemplate": "%{y}, mean: %{x:+.2f}<extra></extra>",
            }
        )
    reach = 1.8 * max(spread)
    return figure(
        traces,
        "difference, points of accuracy",
        "",
        xaxis={"range": [-reach, reach], "zeroline": True, "zerolinewidth": 2},
        yaxis={"automargin": True, "range": [-0.6, len(rows) - 0.4]},
        height=90 + 44 * len(rows),
    )


def against(comparison: Comparison, cost: str, title: str, scale: float) -> Figure:
    """Accuracy against one cost."""
    tint = colors(comparison.rows)
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": row.label,
            "x": [getattr(row, cost) * scale],
            "y": [100 * row.mean],
            "marker": {
                "size": 12,
                "color": tint[row.label],
                "symbol": "square-open" if row.variant.control else "circle",
            },
            "error_y": {
                "visible": row.sd is not None,
                "array": [100 * (row.sd or 0)],
                "color": tint[row.label],
            },
            "hovertemplate": f"{row.label}<br>%{{x:.4g}}, %{{y:.2f}} %<extra></extra>",
        }
        for row in comparison.rows
    ]
    return figure(traces, title, "accuracy, %", height=320)


def curves(comparison: Comparison, quantity: str, title: str, scale: float = 1.0) -> Figure:
    """One quantity over the epochs: each seed thin, their mean thick."""
    tint = colors(comparison.rows)
    traces: list[dict[str, Any]] = []
    for row in comparison.rows:
        seeds = [
            [scale * point[quantity] for point in run["curve"]]
            for run in comparison.runs
            if run["variant"] == row.variant.key
        ]
        line = {"color": tint[row.label], "dash": "dot" if row.variant.control else "solid"}
        means = [mean_and_sd(values)[0] for values in zip(*seeds, strict=True)]
        epochs = list(range(1, comparison.recipe.epochs + 1))
        for values in seeds if len(seeds) > 1 else ():
            traces.append(_line(epochs, values, {**line, "width": 1}, opacity=0.35))
        hover = {"hovertemplate": f"{row.label}<br>epoch %{{x}}: %{{y:.3g}}<extra></extra>"}
        traces.append(_line(epochs, means, {**line, "width": 2.5}, mode="lines+markers", **hover))
    ticks = {"dtick": max(1, comparison.recipe.epochs // 10)}
    return figure(traces, "epoch", title, xaxis=ticks, height=340)


def _line(x: Sequence[int], y: Sequence[float], line: Mapping[str, Any], **more: Any) -> Figure:
    trace = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}
    return trace | more
