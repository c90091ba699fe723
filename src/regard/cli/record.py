"""What a program reads about a mechanism: everything on its card and in its docstring."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from ..catalog import Entry


def record(entry: Entry) -> dict[str, Any]:
    """All that the catalog knows of a mechanism, as plain values."""
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
    """The example of the docstring, with the imports that let it run anywhere."""
    lines = re.findall(r"^(?:>>>|\.\.\.) (.*)$", entry.doc, re.M)
    return "\n".join(["import torch", f"from regard import {entry.name}", *lines])
