"""Names of modules: patterns that match them, and lists of them in messages."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches


def glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern: ``*`` matches any text without dots, ``**`` any text, ``?`` a character.

    ``[ab]`` and ``[!ab]`` match one character too.

    >>> [bool(glob("layer*.bn?").fullmatch(name)) for name in ("layer1.bn2", "layer1.0.bn2")]
    [True, False]
    >>> bool(glob("**.bn[12]").fullmatch("layer1.0.bn2"))
    True
    """
    signs = {"**": ".*", "*": "[^.]*", "?": "[^.]"}
    parts: list[str] = re.findall(r"\*\*|\[[^]]+\]|.", pattern)
    return re.compile(
        "".join(
            signs.get(part) or (part.replace("[!", "[^") if part[1:] else re.escape(part))
            for part in parts
        )
    )


def listing(names: Collection[str], wanted: str = "") -> str:
    """List at most twenty names, those that resemble the wanted one first.

    >>> listing(["conv1", "bn1", "conv2"], "conv3")
    'conv2, conv1, bn1'
    """
    close = get_close_matches(wanted, names, n=5, cutoff=0.6) if wanted else []
    ordered = list(dict.fromkeys([*close, *names]))
    rest = f" … and {len(ordered) - 20} more" if len(ordered) > 20 else ""
    return ", ".join(name or "''" for name in ordered[:20]) + rest
