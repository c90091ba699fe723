"""``regard show``: everything about one mechanism."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .. import catalog
from ..catalog import Entry, Option
from ..core.card import Card
from ..core.shapes import split
from .arguments import Json, Name
from .equations import inline, lines, prose
from .record import record, snippet
from .screen import screen, show_json, show_text

READABLE = 100
RANGES = {
    "unit": "0 to 1",
    "softmax": "sums to one over the last axis",
    "real": "any number",
    "offset": "coordinates",
}


def show(
    name: Name,
    json: Json = False,
) -> None:
    """Show everything about one mechanism: equation, axes, options, differences, cost, paper."""
    entry = catalog.show(name)
    if json:
        show_json(record(entry))
        return
    console = screen()
    show_text(page(entry), console, width=min(console.width, READABLE))


def page(entry: Entry) -> RenderableType:
    """Lay out the facts, the most important ones first."""
    head = Text.assemble((entry.card.title, "bold"), "  ", (entry.key, "cyan"))
    parts: list[RenderableType] = [head, prose(entry.summary), ""]
    equation = Text("\n".join(lines(entry.equation)), "green")
    parts += [Padding(equation, (0, 4), expand=False), ""] if equation else []
    parts += [text, ""] if (text := description(entry)) else []
    parts += [facts(entry), ""]
    for heading, body in (
        ("Options", [option_text(option) for option in entry.options]),
        ("Where this differs", [Text(f"• {prose(text)}") for text in entry.card.differs]),
        ("Published", list(published(entry))),
        ("Try it", [Text(snippet(entry), "green")]),
    ):
        if body:
            parts += [Text(heading, "bold"), Padding(Group(*body), (0, 2), expand=False), ""]
    return Group(*parts[:-1])


def description(entry: Entry) -> str:
    """Return the text of the docstring between the equation and the arguments."""
    body = re.split(r"^(?:Args|Shape|Raises|Returns):", entry.doc, maxsplit=1, flags=re.M)[0]
    body = re.sub(r"\.\. math::\n\n?(?:[ ]{4,}.*\n)+", "\n", body.partition("\n")[2])
    return "\n\n".join(prose(text) for text in re.split(r"\n\s*\n", body) if text.strip())


def facts(entry: Entry) -> Table:
    """Lay out axes, values, cost and symmetries, one on a line."""
    grid = Table.grid(padding=(0, 2, 0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    for label, value in labeled(entry):
        grid.add_row(label, value)
    return grid


def labeled(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield the lines of `facts`."""
    card, own = entry.card, entry.axes
    yield "domain", f"{card.domain}, {card.computes} → {card.applies}"
    yield "kind", card.kind if card.plug else f"{card.kind}, a whole model"
    yield "input", axes(own.input)
    yield "map", f"{axes(own.map)}; {values(own.range)}"
    yield from ((f"tap_{name}", pattern) for name, pattern in own.parts.items())
    yield "output", axes(own.output)
    yield "time", inline(card.cost["time"])
    yield "memory", inline(card.cost["memory"])
    yield from (("symmetry", law) for law in symmetries(card))
    if card.identity_at_init:
        yield "new", "returns its input until it is trained"
    if card.train_differs:
        yield "training", "computes something other than in evaluation"


def axes(pattern: str) -> str:
    """Format the axes of one tensor or several.

    >>> axes("h: b c h 1, w: b c 1 w"), axes("b n n, b c c")
    ('h (b c h 1), w (b c 1 w)', '(b n n), (b c c)')
    """
    named = ((name, one) for name, one in split(pattern).items())
    if len(split(pattern)) == 1:
        return pattern
    return ", ".join(f"({one})" if name.isdigit() else f"{name} ({one})" for name, one in named)


def values(kind: str) -> str:
    """Describe the values of a map.

    >>> values("unit"), values("softmax k")
    ('0 to 1', 'sums to one over k')
    """
    return RANGES.get(kind) or kind.replace("softmax ", "sums to one over ")


def symmetries(card: Card) -> Iterator[str]:
    """Yield the symmetries of a card, in words."""
    if card.equivariant:
        yield f"permuting the {listed(card.equivariant)} permutes the output in the same way"
    if card.map_invariant:
        yield f"the map does not depend on the order of the {listed(card.map_invariant)}"
    if card.independent:
        yield f"the {listed(card.independent)} do not influence one another"


def listed(names: tuple[str, ...]) -> str:
    """Join names with "or".

    >>> listed(("pixels", "channels"))
    'pixels or channels'
    """
    return " or ".join(names)


def option_text(option: Option) -> RenderableType:
    """Format an option: its signature, and its meaning."""
    default = "" if option.default is None else f" = {option.default}"
    head = Text.assemble((option.name, "cyan"), (f": {option.type}{default}", "dim"))
    return Group(head, Padding(prose(option.meaning), (0, 0, 0, 4), expand=False))


def published(entry: Entry) -> Iterator[RenderableType]:
    """Yield the paper, the code, and the checkpoints that can be loaded."""
    card = entry.card
    yield Text(card.paper, "italic")
    yield f"{card.authors}. {card.venue} {card.year}"
    yield address(card.url)
    if card.code:
        yield address(card.code, f"  code, {card.license or 'no license stated'}")
    if entry.twin:
        yield f"for Keras: regard.keras.{entry.name}"
    if loads := [known.source for known in entry.references if known.loads]:
        yield f"loads checkpoints of {', '.join(loads)}"
    for known in entry.references:
        if not known.loads:
            yield f"does not load those of {known.source}, which {known.differs}"
    if others := [alias for alias in card.aliases if alias != entry.key]:
        yield f"also called {', '.join(others)}"


def address(url: str, note: str = "") -> Text:
    """Format a link that a terminal can open."""
    return Text.assemble((url, f"underline link {url}"), note)
