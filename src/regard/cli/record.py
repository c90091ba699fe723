"""The facts about a mechanism as plain data, from its card and its docstring."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from ..catalog import Entry


def record(entry: Entry) -> dict[str, Any]:
    """Return all facts in the catalog about a mechanism, as plain data."""
    return {
        "key": entry.key,
        "class": entry.name,
        "summary": entry.summary,
        "keras": entry.twin,
        "equation": entry.equation,
        "options": [asdict(option) for option in entry.options],
        "references": [asdict(known) for known in entry.references],
        "snippet": snippet(entry),
        **asdict(entry.card),
        **asdict(entry.axes),
    }


def snippet(entry: Entry) -> str:
    """Return the example of the docstring, with the imports that it needs."""
    lines = re.findall(r"^(?:>>>|\.\.\.) (.*)$", entry.doc, re.M)
    return "\n".join(["import torch", f"from regard import {entry.name}", *lines])
