"""The file to which every finished run is appended, safely even if the process is killed."""

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


class ResultsLog:
    """Lines of JSON: the recipe first, then costs and runs; a line is complete or ignored.

    Args:
        path: The file; it is created when the first line is appended.

    >>> import tempfile
    >>> log = ResultsLog(Path(tempfile.mkdtemp()) / "results.jsonl")
    >>> log.append("run", variant="none", seed=0, accuracy=0.9)
    >>> log.read("run")
    [{'variant': 'none', 'seed': 0, 'accuracy': 0.9}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, **fields: Any) -> None:
        """Append a line. It is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(dict(kind=kind, **fields)).encode() + b"\n"
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.lseek(file, 0, os.SEEK_END):
                os.lseek(file, -1, os.SEEK_END)
                if os.read(file, 1) != b"\n":  # the last writer was killed within a line
                    line = b"\n" + line
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)

    def read(self, kind: str) -> list[dict[str, Any]]:
        """Return all lines of a kind, in the order in which they were appended."""
        return [line for line in self._parse()[0] if line.pop("kind", "") == kind]

    @property
    def num_truncated(self) -> int:
        """Number of lines that are incomplete because their writer was killed."""
        return self._parse()[1]

    def _parse(self) -> tuple[list[dict[str, Any]], int]:
        """Return the complete lines, and the number of incomplete ones."""
        text = self.path.read_bytes() if self.path.exists() else b""
        lines, truncated = [], 0
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                truncated += bool(line)
        return lines, truncated

    def check_recipe(self, recipe: Mapping[str, Any]) -> bool:
        """Return whether the file has runs of this recipe; False if it has no recipe yet.

        Raises:
            ValueError: the file has runs of another recipe; the message names the differences.
        """
        if not (recorded := self.read("recipe")):
            return False
        before, now = recorded[0], json.loads(json.dumps(dict(recipe)))
        differences = [
            f"{name} was {before.get(name)!r} and is now {now.get(name)!r}"
            for name in sorted({*before, *now})
            if before.get(name) != now.get(name)
        ]
        if differences:
            raise ValueError(
                f"{self.path} has runs of another recipe: {'; '.join(differences)}. "
                "Choose another --out, or the old recipe: only attentions and seeds can be added"
            )
        return True
