"""The report: one HTML page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template

from .attention_panels import Gallery
from .figures import accuracy_against_cost, forest_plot, learning_curves, variant_colors
from .results import Comparison, Row, attention_rows, format_points, row_cells

PAGE = Path(__file__).with_name("page.html")
SMALL_DATA = 10_000  # training images
GALLERY = """<h2>Where each attention looks</h2>
<p class="note">Attention maps of the trained models of seed $seed for validation images: the first
and the last map that is fine enough to show. Heat maps have one scale per row. If attention weights
channels and not positions, bars show the gates, in one order per row. Values that hardly vary look
flat.</p>
<div class="wide" tabindex="0" role="region" aria-label="Attention maps"><table class="gallery">
<thead><tr><td></td>$names</tr></thead><tbody>
<tr><th scope="row">image</th>$images</tr>"""


def write_page(comparison: Comparison, gallery: Gallery) -> Path:
    """Write the page and return its path."""
    from plotly.offline import get_plotlyjs

    from .. import __version__

    figures = dict(
        forest=forest_plot(comparison),
        params=accuracy_against_cost(comparison, "params", "parameters, millions", 1e-6),
        macs=accuracy_against_cost(comparison, "macs", "MACs for one image, millions", 1e-6),
        latency=accuracy_against_cost(comparison, "latency", "latency for one image, ms", 1e3),
        accuracy=learning_curves(comparison, "accuracy", "validation accuracy, %", 100),
        loss=learning_curves(comparison, "loss", "training loss"),
    )
    page = Template(PAGE.read_text("utf-8")).substitute(
        title=escape(page_title(comparison)),
        conclusion=escape(conclusion(comparison)),
        experiment=escape(describe_experiment(comparison)),
        table="\n".join(_table_rows(comparison)),
        table_note=escape(table_note(comparison)),
        legend="".join(_legend(comparison)),
        gallery="\n".join(_gallery(gallery)) if gallery.panels else "",
        recipe="\n".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
            for name, text in recipe_items(comparison)
        ),
        limitations="\n".join(f"<li>{escape(text)}</li>" for text in limitations(comparison)),
        version=__version__,
        results=escape(comparison.results_path.name),
        plotly=get_plotlyjs(),
        figures=json.dumps(figures).replace("</", "<\\/"),
    )
    part = comparison.report.with_suffix(".part")
    part.write_text(page, "utf-8")
    return part.replace(comparison.report)


def plural(count: int, word: str) -> str:
    """Write a count and the word, in the plural if it is not 1.

    >>> plural(1, "seed"), plural(1200, "image")
    ('1 seed', '1,200 images')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def page_title(comparison: Comparison) -> str:
    """Return the question that the comparison answers."""
    names = [row.label for row in attention_rows(comparison)]
    listed = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + "".join(names[-1:])
    if not names:
        return f"{comparison.recipe.backbone} on {comparison.recipe.data}"
    verb = "Does" if len(names) == 1 else "Do"
    return f"{verb} {listed} help {comparison.recipe.backbone} on {comparison.recipe.data}?"


def conclusion(comparison: Comparison) -> str:
    """Return the conclusion, in a few sentences."""
    rows = attention_rows(comparison)
    if not rows:
        base = comparison.rows[0]
        return f"Nothing was compared: the plain backbone alone reaches {100 * base.mean:.1f} %."
    if len(comparison.seeds) < 2:
        return "One seed cannot distinguish a gain from chance. Run it with three seeds or more."
    better = [r for r in rows if r.difference and r.difference.verdict.startswith("better")]
    worse = [r for r in rows if r.difference and r.difference.verdict.startswith("worse")]
    sentences = [
        f"{', '.join(r.label for r in found)} {'is' if len(found) == 1 else 'are'} {word} than "
        "the plain backbone, by more than chance explains."
        for found, word in ((better, "better"), (worse, "worse"))
        if found
    ]
    if not sentences:
        sentences = [
            f"With {plural(len(comparison.seeds), 'seed')}, no difference can be distinguished "
            "from chance."
        ]
    first = max(rows, key=lambda row: row.mean)
    change = format_points(first.difference.mean) if first.difference else ""
    sentences.append(
        f"Of {plural(len(rows), 'attention')}, {first.label} has the highest mean: "
        f"{100 * first.mean:.1f} %, {change} points from the plain backbone."
    )
    control = next((r for r in comparison.rows if r.variant.control), None)
    if control and control.difference:
        sentences.append(
            "The same number of parameters without attention changes accuracy by "
            f"{format_points(control.difference.mean)} points."
        )
    return " ".join(sentences)


def describe_experiment(comparison: Comparison) -> str:
    """Return a paragraph that describes the experiment."""
    r = comparison.recipe
    pairing = (
        "Checksums confirm that the variants of each seed started with the same backbone weights "
        "and trained on the same images in the same order, with the same augmentation."
        if comparison.paired
        else "WARNING: by their checksums, the variants of a seed did NOT all start with the same "
        "weights and train on the same batches (another version of a library, another machine?): "
        "the differences are not paired."
    )
    control = next((row for row in comparison.rows if row.variant.control), None)
    control_note = (
        f" {control.label} is the same backbone with two 1×1 convolutions and no gate in place of "
        "each attention, with nearly as many parameters: its gain is that of parameters alone."
        if control
        else ""
    )
    return (
        f"{r.backbone} was trained from scratch on {plural(r.train, 'image')} of {r.data} "
        f"({r.size} × {r.size}, {r.classes} classes) for "
        f"{plural(r.epochs, 'epoch')}, once without and once with each attention, with "
        f"{plural(len(comparison.seeds), 'seed')}, and evaluated on "
        f"{plural(r.validation, 'image')} that were not trained on. {pairing}{control_note}"
    )


def table_note(comparison: Comparison) -> str:
    """Return the note that explains the table."""
    one, seeds = 100 / comparison.recipe.validation, len(comparison.seeds)
    return (
        "Accuracy is top-1 after the last epoch, mean ± standard deviation over the seeds; no "
        "best epoch was selected. The difference is to the plain backbone of the same seed, its "
        f"interval Student's t over {plural(seeds, 'seed')}. One image is {one:.2f} points. "
        f"Latency is the median for one image on {comparison.recipe.device}, with "
        f"{plural(comparison.recipe.threads, 'thread')}."
    )


def recipe_items(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of every setting."""
    r = comparison.recipe
    yield "attention", f"inserted at: {r.at}, start: {r.start}"
    yield (
        "data",
        f"{r.data}, checksum {r.checksum}; shifted by up to {r.shift:.1%} of the size"
        + (", half of the images mirrored" if r.flip else ""),
    )
    yield "steps", f"{plural(r.epochs, 'epoch')} of batches of {r.batch_size}"
    yield "optimizer", f"{r.optimizer}, weight decay {r.weight_decay:g}"
    yield (
        "learning rate",
        f"up to {r.lr:g} in the first {r.warmup:.0%} of the steps, then to zero along a cosine",
    )
    yield "loss", "cross-entropy" + (f", label smoothing {r.smoothing:g}" if r.smoothing else "")
    yield "seeds", ", ".join(map(str, comparison.seeds))
    yield "machine", f"{r.device}, precision {r.precision}, {plural(r.threads, 'thread')} per run"
    found = {f"{n} {v}" for run in comparison.runs for n, v in run["versions"].items()}
    yield "versions", ", ".join(sorted(found))
    yield "time", f"{sum(run['seconds'] for run in comparison.runs) / 60:.1f} minutes of training"


def limitations(comparison: Comparison) -> Iterator[str]:
    """Yield what must not be concluded."""
    r, seeds = comparison.recipe, len(comparison.seeds)
    if seeds < 5:
        yield (
            f"{plural(seeds, 'seed')} can reveal only large differences: intervals shrink with "
            "more seeds. “No difference seen” does not mean that there is none."
        )
    if len(attention_rows(comparison)) > 1:
        yield (
            f"{len(attention_rows(comparison))} attentions were compared, each at 95 %: of twenty "
            "without any effect, one would seem to have one."
        )
    if r.train < SMALL_DATA:
        yield (
            f"{plural(r.train, 'training image')} are few, and images of {r.size} × {r.size} "
            "small: what helps here need not help on large data, and the reverse."
        )
    if r.data == "digits":
        yield "Training and validation digits have the same writers: new writers would be harder."
    yield (
        "All variants have one recipe, which was tuned for none of them, and no pretraining. The "
        "intervals cover the variation over seeds, not over splits of the data."
    )
    yield (
        "An attention map shows which positions or channels are weighted, not always the reason "
        "for the network's decision."
    )


def _table_rows(comparison: Comparison) -> Iterator[str]:
    colors = variant_colors(comparison.rows)
    for row in comparison.rows:
        label, *rest = map(escape, row_cells(row))
        head = f'<th scope="row">{_color_dot(row, colors[row.label])}{label}</th>'
        yield f"<tr>{head}{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"


def _legend(comparison: Comparison) -> Iterator[str]:
    colors = variant_colors(comparison.rows)
    for row in comparison.rows:
        yield f"<span>{_color_dot(row, colors[row.label])}{escape(row.label)}</span>"


def _color_dot(row: Row, color: str) -> str:
    kind = "dot open" if row.variant.control else "dot"
    return f'<span class="{kind}" style="--c:{color}"></span>'


def _gallery(gallery: Gallery) -> Iterator[str]:
    """Yield the section of attention maps."""
    yield Template(GALLERY).substitute(
        seed=gallery.seed,
        names="".join(f'<th scope="col">{escape(name)}</th>' for name in gallery.classes),
        images="".join(f"<td>{html}</td>" for html in gallery.images),
    )
    previous = ""
    for panel in gallery.panels:
        style = "" if panel.label == previous else ' class="first"'
        previous = panel.label
        head = f'{escape(panel.label)}<span class="caption">{escape(panel.caption)}</span>'
        pictures = "".join(f"<td>{html}</td>" for html in panel.pictures)
        yield f'<tr{style}><th scope="row">{head}</th>{pictures}</tr>'
    yield "</tbody></table></div>"
