"""``regard network``: the papers' networks and their published figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..catalog import entries
from ..networks import NETWORKS, Network, find_networks, show_network
from . import models
from .arguments import INPUT, Json, Options, Shape
from .screen import plain_table, screen, show_json, show_text
from .show import READABLE, address

if TYPE_CHECKING:
    from ..networks.counting import Counted

HEADINGS = (
    "network",
    "paper",
    "parameters",
    "counted",
    "difference",
    "MACs",
    "counted",
    "difference",
    "convention",
)

network = typer.Typer(
    help="Build, show and measure the networks of the papers.", no_args_is_help=True
)


def complete(incomplete: str) -> list[tuple[str, str]]:
    """Return the names with that prefix, with their titles, for shell completion.

    >>> complete("eca_resnet5")
    [('eca_resnet50', 'ECA-ResNet-50')]
    """
    return [(n.name, n.title) for n in NETWORKS.values() if n.name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(help="Name of a network.", autocompletion=complete)]


@network.command("list")
def list_(
    text: Annotated[str | None, typer.Argument(help="Words in the name or title.")] = None,
    mechanism: Annotated[
        str | None, typer.Option(help="Only networks with this mechanism.")
    ] = None,
    json: Json = False,
) -> None:
    """List the networks, with their published figures."""
    found = find_networks(text, mechanism=mechanism)
    if json:
        show_json([asdict(one) for one in found])
        return
    table = plain_table("name", "title", "paper", "parameters", "MACs", numbers=HEADINGS[2:6:3])
    for one in found:
        printed = (one.published.get(f"{name}_published") or "" for name in ("params", "macs"))
        table.add_row(Text(one.name, "cyan"), one.title, Text(paper(one)[0], "dim"), *printed)
    show_text(table, screen())


@network.command()
def show(name: Name, json: Json = False) -> None:
    """Show the parts of a network and its published figures."""
    one = show_network(name)
    if json:
        show_json({**asdict(one), "published": one.published})
        return
    console = screen()
    show_text(page(one), console, width=min(console.width, READABLE))


@network.command()
def measure(name: Name, input: Shape = None, set_: Options = None, json: Json = False) -> None:
    """Count parameters, MACs and activation memory, beside the published figures."""
    from ..networks.counting import count

    shapes = (models.sizes(input, INPUT),) if input else ()
    counted = count(show_network(name), *shapes, **models.options(set_))
    if json:
        show_json(record(counted))
        return
    console = screen()
    show_text(comparison(counted), console, width=min(console.width, READABLE))


def paper(one: Network) -> tuple[str, str]:
    """Return the venue and the address of a network's paper."""
    if not one.mechanism:
        return one.venue, one.url
    card = entries()[one.mechanism].card
    return f"{card.venue} {card.year}", card.url


def page(one: Network) -> RenderableType:
    """Lay out all facts about a network."""
    parts: list[RenderableType] = [Text.assemble((one.title, "bold"), "  ", (one.name, "cyan")), ""]
    facts = Table.grid(padding=(0, 2))
    facts.add_row(Text("backbone", "dim"), Text(call(one.backbone, one.arguments)))
    for place in one.places:
        put = f"{call(place.mechanism, place.options)} at {place.at}"
        facts.add_row(Text("with", "dim"), Text(put))
    for glob in one.without:
        facts.add_row(Text("without", "dim"), Text(glob))
    venue, url = paper(one)
    if venue:
        title = f"{entries()[one.mechanism].card.paper}, " if one.mechanism else ""
        facts.add_row(Text("paper", "dim"), Text(title + venue))
        facts.add_row("", address(url))
    for label, key in (
        ("parameters", "params_published"),
        ("MACs", "macs_published"),
        ("top-1", "top1"),
        ("source", "source"),
        ("recipe", "placement"),
    ):
        if value := one.published.get(key):
            facts.add_row(Text(label, "dim"), Text(str(value)))
    parts.append(Padding(facts, (0, 2)))
    if one.remark:
        parts += ["", Text(one.remark)]
    snippet = f'regard.network("{one.name}")'
    return Group(*parts, "", Padding(Text(snippet, "green"), (0, 2)))


def call(name: str, options: Mapping[str, Any]) -> str:
    """Write a call with keyword arguments, or the name alone without any.

    >>> call("eca", {"kernel_size": 3})
    'eca(kernel_size=3)'
    """
    arguments = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return f"{name}({arguments})" if arguments else name


def record(counted: Counted) -> dict[str, Any]:
    """Return the counted and published figures as plain data."""
    figures = (counted.parameters, counted.macs)
    return {
        "network": counted.network.name,
        "input": counted.measurement.input,
        "convention": counted.network.convention,
        "figures": {f.name: {**asdict(f), "difference": f.difference} for f in figures},
        "memory": counted.measurement.memory,
        "memory_kept": counted.measurement.memory_kept,
    }


def comparison(counted: Counted) -> RenderableType:
    """Lay out the published and the counted figures side by side."""
    from ..core.text import si
    from ..networks.counting import CONVENTIONS

    one, cost = counted.network, counted.measurement
    shapes = ", ".join(" × ".join(map(str, shape)) for shape in cost.input)
    table = plain_table("", "published", "counted", "difference", numbers=("published", "counted"))
    for figure in (counted.parameters, counted.macs):
        count = f"{figure.counted:,}" if figure.name == "parameters" else si(figure.counted)
        table.add_row(figure.name, figure.shown, count, figure.difference)
    table.add_row("activations at the peak", "", si(cost.memory, "B"), "")
    table.add_row("kept for the backward pass", "", si(cost.memory_kept, "B"), "")
    parts: list[RenderableType] = [Text(f"{one.title} on {shapes}"), table]
    if counted.macs.published:
        parts += ["", Text(f"Published ({one.convention}): {CONVENTIONS[one.convention]}.")]
        if one.convention != "conv+matmul":
            parts.append(Text(f"Counted (conv+matmul): {CONVENTIONS['conv+matmul']}."))
    if one.remark:
        parts.append(Text(one.remark))
    if source := one.published.get("source"):
        parts.append(Text(f"Source: {source}", "dim"))
    return Group(*parts)


def markdown_table(networks: Iterable[Counted]) -> str:
    """Return all figures as a Markdown table, for the documentation."""
    from ..core.text import si

    rows = [HEADINGS, ["---"] * len(HEADINGS)]
    for counted in networks:
        one = counted.network
        venue, url = paper(one)
        cells = [f"`{one.name}`", f"[{venue}]({url})" if venue else ""]
        for figure in (counted.parameters, counted.macs):
            exact = figure.name == "parameters"
            count = f"{figure.counted:,}" if exact else si(figure.counted)
            cells += [figure.shown, count, figure.difference]
        rows.append([*cells, one.convention if counted.macs.published else ""])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
