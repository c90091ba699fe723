"""Rewrite what is made from the cards: the tables of the READMEs and the stub of the package."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import asdict
from pathlib import Path

import regard
from regard.catalog import FOLDER, INDEX, Entry, class_to_key, digest, find, parsed, resolve
from regard.cli.list import HEADINGS, markdown_table

ROOT = Path(__file__).parent.parent
STUB = ROOT / "src/regard/__init__.pyi"
CHINESE = ("键", "机制", "加权对象", "方式", "时间", "Keras", "论文")
BETWEEN = re.compile(r"(<!-- catalog -->\n).*?(<!-- /catalog -->)", re.S)


def generated() -> dict[Path, str]:
    """What each file should hold."""
    return {
        ROOT / "README.md": readme(ROOT / "README.md", HEADINGS),
        ROOT / "README.zh-CN.md": readme(ROOT / "README.zh-CN.md", CHINESE, "代码"),
        STUB: stub(),
        INDEX: index(),
    }


def readme(path: Path, headings: tuple[str, ...], code: str = "code") -> str:
    """A README with its table made new."""
    text = path.read_text("utf-8")
    table = markdown_table(find(), headings, code)
    renewed, times = BETWEEN.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if times != 1:
        raise ValueError(f"{path.name}: wanted <!-- catalog --> … <!-- /catalog --> once")
    return renewed


def index() -> str:
    """Every entry, one a line, with the checksum of the files that it was read from."""
    keys = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
    lines = []
    for key in keys:
        if entry := parsed(key):
            facts = asdict(entry)
            del facts["card"]["axes"]  # the entry has them
            row = {"digest": digest(key), "entry": facts}
            lines.append(f"{json.dumps(key)}: {json.dumps(row, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def stub() -> str:
    """Every name of the package, for editors and type checkers, which do not run its code.

    `create`, `insert` and `replace` have an overload for each mechanism: an editor completes its
    options and knows the class that is returned.
    """
    modules: dict[str, str] = dict(vars(regard)["_TOOLS"])
    modules |= {name: f"mechanisms.{key}" for name, key in class_to_key().items()}
    verbs = {"create": created, "insert": inserted, "replace": inserted}
    imports = sorted(
        f"from .{module} import {name} as {name}"
        for name, module in modules.items()
        if name not in verbs
    )
    overloads = [line for name, write in verbs.items() for line in write(name)]
    return "\n".join([HEAD, *imports, "", *overloads, "", "__version__: str", ""])


WIDTHS = ("channels", "in_channels", "embed_dim")
HEAD = '''"""Made by docs/catalog.py."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, TypeVar, overload

import torch
from torch import Tensor, nn

from .core.attention import Mechanism
from .core.mixed_conv import Padding
from .surgery.places import At

M = TypeVar("M", bound=Mechanism)
'''


def names(entry: Entry) -> str:
    """What a mechanism alone answers to, as a type."""
    alone = [name for name in entry.names if not ambiguous(name)]
    return f"Literal[{', '.join(json.dumps(name) for name in dict.fromkeys(alone))}]"


def ambiguous(name: str) -> bool:
    """Whether several mechanisms share a name."""
    try:
        resolve(name)
    except ValueError:
        return True
    return False


def arguments(entry: Entry, *, skip: int = 0) -> list[str]:
    """The parameters of the constructor as they are written, positional ones from ``skip`` on."""
    found, starred = [], False
    known = inspect.signature(getattr(regard, entry.name)).parameters.values()
    for parameter in list(known)[skip:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            found.append("*")
            starred = True
        default = "" if parameter.default is parameter.empty else " = ..."
        found.append(f"{parameter.name}: {parameter.annotation}{default}")
    return found


def created(verb: str) -> list[str]:
    """The overloads of `create`."""
    lines = []
    for entry in find():
        given = ", ".join([f"name: {names(entry)}", "/", *arguments(entry)])
        lines += ["@overload", f"def {verb}({given}) -> {entry.name}: ..."]
    for kind, made in (("type[M]", "M"), ("str", "Mechanism")):
        rest = f"name: {kind}, /, *args: Any, **options: Any"
        lines += ["@overload", f"def {verb}({rest}) -> {made}: ..."]
    return lines


def inserted(verb: str) -> list[str]:
    """The overloads of `insert` or `replace`; the place gives the channels, device and type."""
    kinds = ("convolution",) if verb == "replace" else ("gate", "relation", "sequence")
    at = "at: At" if verb == "replace" else "at: At = ..."
    start = [] if verb == "replace" else ['start: Literal["identity", "paper"] = ...']
    fixed = [at, "*", *start, "example_input: Any = ..."]
    lines = []
    for entry in find():
        if entry.card.kind in kinds and entry.card.plug:
            sized = next(iter(inspect.signature(getattr(regard, entry.name)).parameters), "")
            own = [
                option if " = ..." in option else f"{option} = ..."
                for option in arguments(entry, skip=sized in WIDTHS)
                if option != "*" and not option.startswith(("device:", "dtype:"))
            ]
            given = ", ".join([f"mechanism: {names(entry)}", *fixed, *own])
            lines += ["@overload", f"def {verb}(model: nn.Module, {given}) -> nn.Module: ..."]
    rest = ", ".join(["mechanism: str | type[Mechanism]", *fixed, "**options: Any"])
    return [*lines, "@overload", f"def {verb}(model: nn.Module, {rest}) -> nn.Module: ..."]


def main() -> None:
    """Write every file that is not as it should be."""
    for path, text in generated().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)} rewritten")


if __name__ == "__main__":
    main()
