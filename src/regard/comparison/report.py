"""The report: one page that holds all it needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from string import Template

from .figures import against, colors, curves, forest
from .looks import looks, samples
from .results import Comparison, Row, cells, points
from .runs import SHOWN, Runs

PAGE = Path(__file__).with_name("page.html")
SAMPLES = 6
SMALL = 10_000
LOOKS = """<h2>Where each attention looks</h2>
<p class="note">Validation images, seen by the models of seed $seed after training, at the first
place and at the last that is fine enough to show. Heat maps share one scale within a row; where
attention weighs channels and not places, bars show their gates, in one order within a row. What
hardly varies looks flat.</p>
<div class="wide" tabindex="0" role="region" aria-label="Attention maps"><table class="looks">
<thead><tr><td></td>$names</tr></thead><tbody>
<tr><th scope="row">image</th>$images</tr>"""


def write(comparison: Comparison, runs: Runs) -> Path:
    """Write the page and return where it is."""
    from plotly.offline import get_plotlyjs

    from .. import __version__

    figures = dict(
        forest=forest(comparison),
        params=against(comparison, "params", "parameters, millions", 1e-6),
        macs=against(comparison, "macs", "MACs for one image, millions", 1e-6),
        latency=against(comparison, "latency", "latency for one image, ms", 1e3),
        accuracy=curves(comparison, "accuracy", "validation accuracy, %", 100),
        loss=curves(comparison, "loss", "training loss"),
    )
    page = Template(PAGE.read_text("utf-8")).substitute(
        title=escape(title(comparison)),
        answer=escape(answer(comparison)),
        story=escape(story(comparison)),
        table="\n".join(_rows(comparison)),
        reading=escape(reading(comparison)),
        legend="".join(_legend(comparison)),
        looks="\n".join(_looks(comparison, runs)),
        recipe="\n".join(
            f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in recipe(comparison)
        ),
        limits="\n".join(f"<li>{escape(text)}</li>" for text in limits(comparison)),
        version=__version__,
        ledger=escape(comparison.ledger.name),
        plotly=get_plotlyjs(),
        figures=json.dumps(figures).replace("</", "<\\/"),
    )
    part = comparison.report.with_suffix(".part")
    part.write_text(page, "utf-8")
    return part.replace(comparison.report)


def plural(count: int, word: str) -> str:
    """Count things.

    >>> plural(1, "seed"), plural(1200, "image")
    ('1 seed', '1,200 images')
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def attentions(comparison: Comparison) -> list[Row]:
    """The rows that have attention."""
    return [r for r in comparison.rows if r.variant.mechanism and not r.variant.control]


def title(comparison: Comparison) -> str:
    """What was asked."""
    names = [row.label for row in attentions(comparison)]
    listed = ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + "".join(names[-1:])
    if not names:
        return f"{comparison.recipe.backbone} on {comparison.recipe.data}"
    verb = "Does" if len(names) == 1 else "Do"
    return f"{verb} {listed} help {comparison.recipe.backbone} on {comparison.recipe.data}?"


def answer(comparison: Comparison) -> str:
    """What came out, in two sentences."""
    rows = attentions(comparison)
    if not rows:
        base = comparison.rows[0]
        return f"Nothing was compared: the plain backbone alone reaches {100 * base.mean:.1f} %."
    if len(comparison.seeds) < 2:
        return "One seed cannot tell a gain from chance. Run it with three seeds or more."
    better = [r for r in rows if r.difference and r.difference.verdict.startswith("better")]
    worse = [r for r in rows if r.difference and r.difference.verdict.startswith("worse")]
    told = [
        f"{', '.join(r.label for r in found)} {'is' if len(found) == 1 else 'are'} {word} than "
        "the plain backbone, and more clearly than chance explains."
        for found, word in ((better, "better"), (worse, "worse"))
        if found
    ]
    if not told:
        told = [
            f"With {plural(len(comparison.seeds), 'seed')}, no difference can be told from chance."
        ]
    first = max(rows, key=lambda row: row.mean)
    change = points(first.difference.mean) if first.difference else ""
    told.append(
        f"Of {plural(len(rows), 'attention')}, {first.label} has the highest mean: "
        f"{100 * first.mean:.1f} %, {change} points from the plain backbone."
    )
    control = next((r for r in comparison.rows if r.variant.control), None)
    if control and control.difference:
        told.append(
            f"As many parameters without attention change {points(control.difference.mean)} points."
        )
    return " ".join(told)


def story(comparison: Comparison) -> str:
    """What was done, in a paragraph."""
    r = comparison.recipe
    same = (
        "Checksums say that the variants of each seed began with the same backbone weights and "
        "saw the same images in the same order, moved in the same way."
        if comparison.paired
        else "WARNING: checksums say that the variants of a seed did NOT begin or go on alike "
        "(another version of a library, another machine?): the differences are not paired."
    )
    control = next((row for row in comparison.rows if row.variant.control), None)
    beside = (
        f" {control.label} is the same backbone with two 1×1 convolutions in place of each "
        "attention, without any gate, of nearly as many parameters: what it gains, parameters gain."
        if control
        else ""
    )
    return (
        f"{r.backbone} was trained from scratch on {plural(r.train, 'image')} of {r.data} "
        f"({r.size} × {r.size}, {r.classes} classes) for "
        f"{plural(r.epochs, 'epoch')}, once plain and once with each attention, in "
        f"{plural(len(comparison.seeds), 'seed')}, and tried on {plural(r.validation, 'image')} "
        f"that it had not seen. {same}{beside}"
    )


def reading(comparison: Comparison) -> str:
    """How to read the table."""
    one, seeds = 100 / comparison.recipe.validation, len(comparison.seeds)
    return (
        "Accuracy is top-1 after the last epoch, mean ± standard deviation over the seeds; no "
        "epoch was picked. The difference is to the plain backbone of the same seed; its interval "
        f"is Student's t over {plural(seeds, 'seed')}. One image is {one:.2f} points. Latency is "
        f"the median for one image on {comparison.recipe.device}, with "
        f"{plural(comparison.recipe.threads, 'thread')}."
    )


def recipe(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """All that is needed to do it again."""
    r = comparison.recipe
    yield "attention", f"{r.at} places, start: {r.start}"
    yield (
        "data",
        f"{r.data}, checksum {r.checksum}; moved by up to {r.shift:.1%} of the side"
        + (", half of the images mirrored" if r.flip else ""),
    )
    yield "steps", f"{plural(r.epochs, 'epoch')} of batches of {r.batch_size}"
    yield "optimizer", f"{r.optimizer}, weight decay {r.weight_decay:g}"
    yield (
        "rate",
        f"up to {r.lr:g} in the first {r.warmup:.0%} of the steps, then down to zero as a cosine",
    )
    yield "loss", "cross-entropy" + (f", smoothed by {r.smoothing:g}" if r.smoothing else "")
    yield "seeds", ", ".join(map(str, comparison.seeds))
    yield "machine", f"{r.device}, precision {r.precision}, {plural(r.threads, 'thread')} a run"
    found = {f"{n} {v}" for run in comparison.runs for n, v in run["versions"].items()}
    yield "versions", ", ".join(sorted(found))
    yield "time", f"{sum(run['seconds'] for run in comparison.runs) / 60:.1f} minutes of training"


def limits(comparison: Comparison) -> Iterator[str]:
    """What must not be concluded."""
    r, seeds = comparison.recipe, len(comparison.seeds)
    if seeds < 5:
        yield (
            f"{plural(seeds, 'seed')} show only large differences: intervals shrink with more. "
            "“No difference seen” does not mean that there is none."
        )
    if len(attentions(comparison)) > 1:
        yield (
            f"{len(attentions(comparison))} attentions were compared, each at 95 %: of twenty that "
            "do nothing, one would seem to do something."
        )
    if r.train < SMALL:
        yield (
            f"{plural(r.train, 'training image')} are few, and pictures of {r.size} × {r.size} "
            "small: what helps here need not help on large ones, nor the other way round."
        )
    if r.data == "digits":
        yield "The same people wrote the digits of both halves: new writers would be harder."
    yield (
        "The recipe is the same for all and was tuned for none; from scratch, not pretrained. The "
        "intervals are about seeds, with this split of the data."
    )
    yield (
        "Where an attention looks is what it weighs, which is not always why the network decides "
        "as it does."
    )


def _rows(comparison: Comparison) -> Iterator[str]:
    tint = colors(comparison.rows)
    for row in comparison.rows:
        label, *rest = map(escape, cells(row))
        head = f'<th scope="row">{_dot(row, tint[row.label])}{label}</th>'
        yield f"<tr>{head}{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>"


def _legend(comparison: Comparison) -> Iterator[str]:
    tint = colors(comparison.rows)
    for row in comparison.rows:
        yield f"<span>{_dot(row, tint[row.label])}{escape(row.label)}</span>"


def _dot(row: Row, color: str) -> str:
    kind = "dot open" if row.variant.control else "dot"
    return f'<span class="{kind}" style="--c:{color}"></span>'


def _looks(comparison: Comparison, runs: Runs) -> Iterator[str]:
    """The section of pictures, if there is anything to see."""
    images, names = runs.data.samples(SAMPLES)
    x = runs.data.normalize(images)
    found = [
        (row.label, look)
        for row in attentions(comparison)
        if (model := runs.trained(row.variant)) is not None
        for look in looks(model, x, images, names)
    ]
    if not found:
        return
    yield Template(LOOKS).substitute(
        seed=SHOWN,
        names="".join(f'<th scope="col">{escape(name)}</th>' for name in names),
        images="".join(f"<td>{html}</td>" for html in samples(images, names)),
    )
    before = ""
    for label, look in found:
        begins = "" if label == before else ' class="begins"'
        before = label
        head = f'{escape(label)}<span class="place">{escape(look.told)}</span>'
        pictures = "".join(f"<td>{html}</td>" for html in look.pictures)
        yield f'<tr{begins}><th scope="row">{head}</th>{pictures}</tr>'
    yield "</tbody></table></div>"
