"""Numbers and tables as text, for terminals and notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def si(number: float, unit: str = "") -> str:
    """Format a quantity with four digits and a prefix.

    >>> si(4089184256), si(25557032, "B"), si(512)
    ('4.089 G', '25.56 MB', '512')
    """
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{number / scale:#.4g} {prefix}{unit}"
    return f"{number:.4g} {unit}".rstrip()


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Align rows of text in columns: the first ``left`` columns to the left, others to the right.

    >>> print(aligned([("path", "macs"), ("stem", "5")]))
    path  macs
    stem     5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def html_table(rows: Sequence[Sequence[str]], *, left: int = 1, caption: str = "") -> str:
    """Format rows of text as an HTML table, with the first row as its head.

    >>> html_table([("a", "b"), ("x", "<5")])
    '<table><tr><th style="text-align:left">a</th>...<td style="text-align:right">&lt;5</td>...'
    """

    def line(tag: str, row: Sequence[str]) -> str:
        sides = ("left" if i < left else "right" for i in range(len(row)))
        return "".join(
            f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>'
            for side, cell in zip(sides, row, strict=True)
        )

    head, *body = rows
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = [line("th", head), *(line("td", row) for row in body)]
    return f"<table>{title}{''.join(f'<tr>{cells}</tr>' for cells in lines)}</table>"
