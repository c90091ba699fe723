"""One file that every finished run is added to, and that outlives whoever wrote it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: one process at a time there
    fcntl = None


class Ledger:
    """Lines of JSON: first the recipe, then what was found, each written whole or not at all.

    Args:
        path: The file; it is made when the first line is added.

    >>> import tempfile
    >>> ledger = Ledger(Path(tempfile.mkdtemp()) / "results.jsonl")
    >>> ledger.add("run", variant="none", seed=0, accuracy=0.9)
    >>> ledger.read("run")
    [{'variant': 'none', 'seed': 0, 'accuracy': 0.9}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, kind: str, **facts: Any) -> None:
        """Add a line. It is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dict(kind=kind, **facts)).encode() + b"\n"
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.lseek(file, 0, os.SEEK_END):
                os.lseek(file, -1, os.SEEK_END)
                if os.read(file, 1) != b"\n":  # whoever wrote last was killed within a line
                    line = b"\n" + line
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)

    def read(self, kind: str) -> list[dict[str, Any]]:
        """All lines of a kind, in the order in which they were added."""
        return [line for line in self._lines()[0] if line.pop("kind", "") == kind]

    @property
    def torn(self) -> int:
        """How many lines were cut off when their writer was killed."""
        return self._lines()[1]

    def _lines(self) -> tuple[list[dict[str, Any]], int]:
        text = self.path.read_bytes() if self.path.exists() else b""
        found, torn = [], 0
        for line in text.splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                torn += bool(line)
        return found, torn

    def agree(self, recipe: Mapping[str, Any]) -> bool:
        """Whether runs of this recipe may be added; False where the file has none yet.

        Raises:
            ValueError: the file holds runs of another recipe; the message names what differs.
        """
        if not (written := self.read("recipe")):
            return False
        before, now = written[0], json.loads(json.dumps(dict(recipe)))
        differing = [
            f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if differing:
            raise ValueError(
                f"{self.path} holds runs of another recipe: {'; '.join(differing)}. "
                "Choose another --out, or the old recipe: only attentions and seeds can be added"
            )
        return True
