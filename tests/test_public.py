"""What users import stays: names and arguments against the list that is kept beside this file."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import regard

LIST = Path(__file__).with_suffix(".json")
UPDATE = "python tests/test_public.py"


def public() -> dict[str, str]:
    """Every public name with its arguments."""
    return {
        name: str(inspect.signature(thing)) if callable(thing := getattr(regard, name)) else ""
        for name in dir(regard)
    }


def test_public_names_and_arguments_are_those_of_the_list() -> None:
    known, found = json.loads(LIST.read_text("utf-8")), public()
    differences = [f"{name}{known[name]} has vanished" for name in known.keys() - found.keys()]
    differences += [f"{name}{found[name]} is new" for name in found.keys() - known.keys()]
    differences += [
        f"{name} was {known[name]}, is {found[name]}"
        for name in known.keys() & found.keys()
        if known[name] != found[name]
    ]
    assert not differences, (
        "\n".join(sorted(differences))
        + f"\nIf that is meant, say so in CHANGELOG.md and run: {UPDATE}"
    )


if __name__ == "__main__":
    LIST.write_text(json.dumps(public(), indent=1, sort_keys=True) + "\n", "utf-8")
