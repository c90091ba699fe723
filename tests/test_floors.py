"""Who may import whom: each floor reaches down only, and what must be light stays so."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import regard

ROOT = Path(regard.__file__).parent
FILES = {path.relative_to(ROOT).with_suffix("").parts: path for path in ROOT.rglob("*.py")}
BELOW = {
    "core": set(),
    "mechanisms": {"core"},
    "references": {"core", "mechanisms"},
    "catalog": {"core"},
    "keras": {"catalog", "core"},
}
TOOLS = {"core", "mechanisms", "references", "catalog"}  # and other tools
# Each third-party package a floor may use; tools and the command line use what their extras name.
PACKAGES = {
    "core": {"torch"},
    "mechanisms": {"torch"},
    "references": {"torch"},
    "catalog": set(),
    "keras": {"keras", "numpy"},
}
LIGHT = (
    "core.absent",
    "core.axes",
    "core.card",
    "core.shapes",
    "core.check",
    "core.text",
    "catalog",
)


def floor(module: tuple[str, ...]) -> str:
    return module[0] if module else ""


def imports(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    """What a file imports: of the package by path within it, of others under their name."""
    here = ("regard", *parts[:-1])
    found = []
    for node in ast.walk(ast.parse(FILES[parts].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            found += [(*module, alias.name) for alias in node.names]
    return found


def inside(parts: tuple[str, ...]) -> set[tuple[str, ...]]:
    """The files of the package that a file imports."""
    found = set()
    for target in imports(parts):
        if target[0] == "regard":
            path = target[1:]
            while path and path not in FILES and (*path, "__init__") not in FILES:
                path = path[:-1]
            found.add(path if path in FILES else (*path, "__init__"))
    return found


@pytest.mark.parametrize("parts", sorted(FILES), ids="/".join)
def test_imports_reach_down(parts: tuple[str, ...]) -> None:
    here = floor(parts)
    if parts in (("__init__",), ("__main__",)):
        return
    for target in inside(parts):
        there = floor(target)
        assert there != "cli" or here == "cli", f"nobody imports the command line: {target}"
        if here == "cli" or there == here:
            continue
        assert there != "hosts", f"{here} may not import what is for one library: {target}"
        twins = there == "keras"
        assert not twins or here == "compat", f"{here} may not import the twins"
        allowed = BELOW.get(here)
        tool = twins or there not in (*BELOW, "cli", "__main__")
        assert (there in TOOLS or tool) if allowed is None else there in allowed, (
            f"{here} may not import {there}"
        )
        if here in ("catalog", "keras") and there == "core":
            assert ".".join(target) in LIGHT, f"{here} may not import {target}, which needs torch"


@pytest.mark.parametrize("parts", sorted(FILES), ids="/".join)
def test_low_floors_stand_on_torch_alone(parts: tuple[str, ...]) -> None:
    if (allowed := PACKAGES.get(floor(parts))) is None:
        return
    outside = {target[0] for target in imports(parts)} - {"regard", "__future__"}
    third_party = outside - sys.stdlib_module_names
    assert third_party <= allowed, f"{third_party - allowed} on the floor {floor(parts)}"


def test_imports_make_no_circle() -> None:
    """Not even inside a function: what is deferred only hides the circle."""
    below = {parts: inside(parts) - {parts, ("__init__",)} for parts in FILES}
    below[("__init__",)] = set()
    done: set[tuple[str, ...]] = set()

    def walk(parts: tuple[str, ...], path: tuple[tuple[str, ...], ...]) -> None:
        assert parts not in path, " -> ".join("/".join(p) for p in (*path, parts))
        if parts not in done:
            for target in sorted(below[parts]):
                walk(target, (*path, parts))
            done.add(parts)

    for parts in sorted(FILES):
        walk(parts, ())


@pytest.mark.parametrize(
    "code",
    [
        "import regard",
        "import regard.catalog",
        "import regard; regard.find(); regard.show('se'); regard.cite('se')",
        "from regard.cli import main; import sys; sys.argv = ['regard', 'list']; main()",
    ],
    ids=["regard", "catalog", "find", "list"],
)
def test_looking_around_imports_no_framework(code: str) -> None:
    check = (
        f"import sys\ntry:\n    exec({code!r})\nexcept SystemExit as end:\n"
        "    assert not end.code, end\n"
        "heavy = {'torch', 'keras', 'tensorflow', 'numpy', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
