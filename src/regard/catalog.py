"""The catalog: every card, read from the source files without importing torch.

>>> resolve("se")
'squeeze_excitation'
>>> [entry.key for entry in find("highway networks")]
['highway']
"""

from __future__ import annotations

import ast
import json
import re
import zlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .core.absent import ABSENT, SHARED, Absent
from .core.axes import Axes
from .core.card import Card
from .core.text import aligned, html_table

T = TypeVar("T")

FOLDER = Path(__file__).parent / "mechanisms"
TWINS = Path(__file__).parent / "keras"
REFERENCES = Path(__file__).parent / "references"
INDEX = Path(__file__).parent / "catalog.json"
CRLF, LF = b"\r\n", b"\n"


@dataclass(frozen=True)
class Option:
    """One argument of a mechanism: its name, type and default as written, and what it does."""

    name: str
    type: str
    default: str | None
    meaning: str


@dataclass(frozen=True)
class Known:
    """A class of another project, of which `regard.references` has a record.

    Attributes:
        source: Its repository or package, and its name.
        loads: Whether its weights can be loaded.
        differs: What it does that the mechanism does not; why its weights cannot be loaded.
        module: The module from which old scripts import it; empty if `regard.compat` has none.
    """

    source: str
    loads: bool
    differs: str
    module: str


@dataclass(frozen=True, repr=False)
class Entry:
    """One mechanism of the catalog.

    Attributes:
        key: Its name, which is the stem of its file.
        name: The name of its class.
        card: Its card.
        axes: Its axes, with the default options.
        doc: The docstring of the class.
        options: The arguments of its constructor.
        classes: Every public class of the file.
        references: The classes of other projects that are known.
        keras: Those of them that `regard.keras` has too.
    """

    key: str
    name: str
    card: Card
    axes: Axes
    doc: str
    options: tuple[Option, ...]
    classes: tuple[str, ...]
    references: tuple[Known, ...]
    keras: tuple[str, ...]

    @property
    def twin(self) -> bool:
        """Whether Keras has it too, as ``regard.keras.<name>``."""
        return bool(self.keras)

    def __repr__(self) -> str:
        card = self.card
        return f"<{self.key}: {card.title}, {card.venue} {card.year}, {card.domain}>"

    def _repr_html_(self) -> str:
        card = self.card
        facts = {
            "paper": f"{card.paper}, {card.venue} {card.year}",
            "domain": f"{card.domain}, {card.computes} → {card.applies}",
            "axes": f"{self.axes.input} → {self.axes.map}",
            "cost": f"time {card.cost['time']}, memory {card.cost['memory']}",
            "options": ", ".join(o.name for o in self.options),
        }
        return html_table([(self.name, self.summary), *facts.items()], left=2)

    @property
    def summary(self) -> str:
        """What it does, in one sentence."""
        return self.doc.partition("\n")[0]

    @property
    def equation(self) -> str:
        """The equation of the docstring, in TeX."""
        found = re.search(r"\.\. math::\n\n?((?:[ ]{4,}.*\n)+)", self.doc + "\n")
        return re.sub(r"\s+", " ", found[1]).strip() if found else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The key, the class name and the aliases."""
        return (self.key, self.name.lower(), *self.card.aliases)


def _literal(node: ast.expr) -> Any:
    """The value of a literal, in which ``dict(a=1)`` counts as one."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        return {k.arg: _literal(k.value) for k in node.keywords if k.arg}
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    return ast.literal_eval(node)


def _made(kind: type[T], body: ast.ClassDef) -> T | None:
    """The literal of that kind in the body of a class: its card, its axes."""
    for node in body.body:
        call = node.value if isinstance(node, ast.Assign) else None
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == kind.__name__:
            args = [_literal(arg) for arg in call.args]
            return kind(*args, **{k.arg: _literal(k.value) for k in call.keywords if k.arg})
    return None


def _meanings(doc: str) -> dict[str, str]:
    """Return the descriptions in the docstring's Args section, by argument."""
    section = re.search(r"\nArgs:\n(.*?)(?:\n\n|\Z)", doc, re.S)
    found = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", section[1] if section else "", re.M)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def _options(body: ast.ClassDef, doc: str) -> tuple[Option, ...]:
    init = next((n for n in body.body if getattr(n, "name", "") == "__init__"), None)
    if not isinstance(init, ast.FunctionDef):
        return ()
    given = init.args
    ordered = given.posonlyargs + given.args
    defaults: list[ast.expr | None] = [None] * (len(ordered) - len(given.defaults))
    pairs = list(zip(ordered, defaults + list(given.defaults), strict=True))[1:]
    pairs += list(zip(given.kwonlyargs, given.kw_defaults, strict=True))
    meanings = _meanings(doc)
    return tuple(
        Option(
            arg.arg,
            ast.unparse(arg.annotation) if arg.annotation else "",
            ast.unparse(default) if default else None,
            meanings.get(arg.arg, ""),
        )
        for arg, default in pairs
    )


def _references(path: Path) -> tuple[Known, ...]:
    """The records in a file, as far as they are literals; each begins with its source."""
    if not path.exists():
        return ()
    found = []
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REFERENCES":
            for call in getattr(node.value, "elts", ()):
                source = call.args[0]
                said = {k.arg: k.value for k in call.keywords}
                differs = _literal(said["differs"]) if "differs" in said else ""
                legacy = said.get("legacy")
                module = legacy.args[0] if isinstance(legacy, ast.Call) else None
                found.append(
                    Known(
                        _literal(source),
                        _literal(said["loads"]) if "loads" in said else True,
                        differs,
                        _literal(module) if module else "",
                    )
                )
    return tuple(found)


class Entries(list[Entry]):
    """A list of mechanisms whose repr is a table."""

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("key", "mechanism", "domain", "how", "time", "paper")
        return [
            head,
            *(
                (e.key, c.title, c.domain, f"{c.computes} → {c.applies}", c.cost["time"], paper)
                for e in self
                for c in [e.card]
                for paper in [f"{c.venue} {c.year}"]
            ),
        ]

    def __repr__(self) -> str:
        return aligned(self._rows(), left=6) if self else "no mechanisms"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=6)


@cache
def entries() -> dict[str, Entry]:
    """Every mechanism by its key, in alphabetical order.

    They are read from the index; only files that changed since it was made are parsed.
    """
    known = json.loads(INDEX.read_text("utf-8")) if INDEX.exists() else {}
    found = {}
    for path in sorted(FOLDER.glob("[!_]*.py")):
        key, row = path.stem, known.get(path.stem)
        kept = _restored(row["entry"]) if row and row["digest"] == digest(key) else None
        if entry := kept or parsed(key):
            found[key] = entry
    return found


def digest(key: str) -> str:
    """Return a checksum of the files that an entry is read from."""
    paths = (folder / f"{key}.py" for folder in (FOLDER, REFERENCES, TWINS))
    texts = (path.read_bytes() if path.exists() else b"" for path in paths)
    return " ".join(f"{zlib.crc32(text.replace(CRLF, LF)):08x}" for text in texts)


def parsed(key: str) -> Entry | None:
    """Read an entry from the source files; None where no class of the file has a card."""
    text = (FOLDER / f"{key}.py").read_text("utf-8")
    classes = [n for n in ast.parse(text).body if isinstance(n, ast.ClassDef)]
    public = tuple(c.name for c in classes if not c.name.startswith("_"))
    twin = TWINS / f"{key}.py"
    written = re.findall(r"^class (\w+)", twin.read_text("utf-8"), re.M) if twin.exists() else []
    keras = tuple(name for name in public if name in written)
    for body in classes:
        if (card := _made(Card, body)) is not None:
            doc = ast.get_docstring(body) or ""
            axes = _made(Axes, body) or Axes()
            told = (_options(body, doc), public, _references(REFERENCES / f"{key}.py"), keras)
            return Entry(key, body.name, replace(card, axes=axes), axes, doc, *told)
    return None


def _restored(row: dict[str, Any]) -> Entry:
    """Rebuild an entry from the JSON of `dataclasses.asdict`."""

    def tuples(value: Any) -> Any:
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    def made(kind: type[T], facts: dict[str, Any]) -> T:
        return kind(**{name: tuples(value) for name, value in facts.items()})

    axes = made(Axes, row["axes"])
    nested = {
        "card": made(Card, {**row["card"], "axes": axes}),
        "axes": axes,
        "options": tuple(made(Option, one) for one in row["options"]),
        "references": tuple(made(Known, one) for one in row["references"]),
    }
    return made(Entry, row | nested)


@cache
def legacy() -> dict[tuple[str, str], str]:
    """Map module and name of each old class to the key of the mechanism that replaces it."""
    return {
        (known.module, known.source.rpartition(":")[2]): entry.key
        for entry in entries().values()
        for known in entry.references
        if known.module
    }


@cache
def class_to_key() -> dict[str, str]:
    """Map each public class to the key of the mechanism in whose file it is."""
    return {name: entry.key for entry in entries().values() for name in entry.classes}


@cache
def keras_classes() -> dict[str, str]:
    """Map each class that Keras has too to the key of its mechanism."""
    return {name: entry.key for entry in entries().values() for name in entry.keras}


def resolve(name: str) -> str:
    """Find the key of a mechanism by its key, class name or alias, or a class name like it.

    Raises:
        ValueError: no mechanism has this name, or several have it; one that is known but absent is
            told with its paper.

    >>> resolve("SENet")
    'squeeze_excitation'
    >>> resolve("lambda layer")
    Traceback (most recent call last):
    ValueError: "lambda layer" is Lambda layer (LambdaNetworks: ...), which is not here: ...
    >>> resolve("cbamm")
    Traceback (most recent call last):
    ValueError: no mechanism "cbamm"; did you mean "cbam"?
    """
    wanted = re.sub(r"[\s-]+", "_", name.strip().lower())
    if wanted in entries():
        return wanted
    owners, absent = owners_of(wanted)
    if len(owners) == 1 and not absent:
        return owners[0]
    if len(owners) + len(absent) > 1:
        told = [*owners, *(f"{one.title}, which is not here ({one.paper})" for one in absent)]
        raise ValueError(f'"{name}" may mean {" or ".join(told)}; say which')
    for one in absent:
        closest = f"; the closest here is {one.instead}" if one.instead in entries() else ""
        raise ValueError(
            f'"{name}" is {one.title} ({one.paper}), which is not here: {one.reason}{closest}'
        )
    everything = {alias for entry in entries().values() for alias in entry.names}
    names = sorted(everything)
    close = get_close_matches(wanted, names, cutoff=0.8) or get_close_matches(wanted, names)
    hint = "; did you mean " + " or ".join(f'"{c}"' for c in close) + "?" if close else ""
    raise ValueError(f'no mechanism "{name}"{hint or "; regard.find() lists them"}')


def owners_of(name: str) -> tuple[list[str], list[Absent]]:
    """Return the keys of the mechanisms that a name may mean, and those that are absent.

    A name that none of them has may be written without underscores, or end in a word that says
    nothing, as classes of other libraries do.

    >>> owners_of("criss_cross_attention")[0], owners_of("crisscrossattention")[0]
    (['criss_cross'], ['criss_cross'])
    >>> owners_of("ecaattention")[0]
    ['eca']
    """
    short = re.sub(r"_?(attention|attn|block|layer|module)$", "", name)
    for wanted, joined in ((name, False), (name, True), (short, False), (short, True)):
        keys = [k for k, one in entries().items() if _among(wanted, one.names, joined)]
        keys += [k for k in SHARED.get(wanted, ()) if k in entries() and k not in keys]
        absent = [one for one in ABSENT if _among(wanted, one.names, joined)]
        if keys or absent:
            return sorted(keys), absent
    return [], []


def _among(name: str, names: Sequence[str], joined: bool) -> bool:
    if not joined:
        return name in names
    return name.replace("_", "") in [one.replace("_", "") for one in names]


def show(name: str) -> Entry:
    """Return the entry of one mechanism."""
    return entries()[resolve(name)]


def find(
    text: str | None = None,
    *,
    domain: str | None = None,
    computes: str | None = None,
    applies: str | None = None,
    kind: str | None = None,
    year: int | Container[int] | None = None,
) -> Entries:
    """List the mechanisms that meet all conditions, oldest first.

    Args:
        text: Words that must occur in its names, card or docstring.
        domain: What the weights are of: ``channel``, ``spatial``, ``temporal``, ``branch``,
            ``channel+spatial``, ``spatial+temporal``, ``sequence``.
        computes: How it computes the weights: ``pool``, ``fc``, ``conv``, ``matmul``.
        applies: How it uses them: ``gate``, ``matmul``, ``select``, ``sample``, ``add``.
        kind: How it can be used: ``gate``, ``relation``, ``convolution``, ``sequence``, ``head``,
            ``network``, ``pair``, ``pool``, ``levels``, ``upsampler``.
        year: A year, or several: ``range(2018, 2021)``.

    Raises:
        ValueError: no mechanism has such a domain, kind, …; the message lists what there is.

    >>> [entry.key for entry in find(domain="spatial", year=range(2015, 2018))]
    ['spatial_transformer', 'attention_to_scale']
    >>> find(domain="chanel")
    Traceback (most recent call last):
    ValueError: no domain "chanel"; there are branch, channel, ...
    """
    chosen = list(entries().values())
    asked = {"domain": domain, "computes": computes, "applies": applies, "kind": kind}
    for name, value in asked.items():
        if value is None:
            continue
        values = {entry.key: getattr(entry.card, name) for entry in entries().values()}
        if name in ("computes", "applies"):
            values = {key: set(joined.split("+")) for key, joined in values.items()}
            there = set().union(*values.values())
            chosen = [entry for entry in chosen if value in values[entry.key]]
        else:
            there = set(values.values())
            chosen = [entry for entry in chosen if value == values[entry.key]]
        if value not in there:
            raise ValueError(f'no {name} "{value}"; there are {", ".join(sorted(there))}')
    if year is not None:
        years = (year,) if isinstance(year, int) else year
        chosen = [entry for entry in chosen if entry.card.year in years]
    if text:
        words = text.lower().split()
        chosen = [entry for entry in chosen if all(word in _prose(entry) for word in words)]
    return Entries(sorted(chosen, key=lambda entry: (entry.card.year, entry.key)))


def _prose(entry: Entry) -> str:
    card = entry.card
    told = (*entry.names, card.title, card.paper, card.authors, card.venue, entry.doc)
    return " ".join((*told, *card.differs)).lower()


def cite(name: str) -> str:
    """Return the BibTeX entry of a mechanism's paper.

    >>> print(cite("cbam"))
    @inproceedings{woo2018cbam,
      title     = {CBAM: Convolutional Block Attention Module},
      author    = {Sanghyun Woo and Jongchan Park and Joon-Young Lee and In So Kweon},
      booktitle = {ECCV},
      year      = {2018},
      url       = {https://arxiv.org/abs/1807.06521}
    }
    """
    card = show(name).card
    first = re.sub(r"\W", "", card.authors.split(",")[0].split()[-1].lower())
    word = next(w for w in re.findall(r"\w+", card.paper.lower()) if w not in ("a", "an", "the"))
    preprint = card.venue == "arXiv"
    fields = {
        "title": card.paper,
        "author": card.authors.replace(", ", " and "),
        "journal" if preprint else "booktitle": card.venue,
        "year": str(card.year),
        "url": card.url,
    }
    lines = ",\n".join(f"  {name:<9} = {{{value}}}" for name, value in fields.items())
    return f"@{'article' if preprint else 'inproceedings'}{{{first}{card.year}{word},\n{lines}\n}}"
