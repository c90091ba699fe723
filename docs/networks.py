"""Rewrite docs/networks.md: every network of the papers, published and counted figures."""

from __future__ import annotations

from pathlib import Path

from regard.cli.network import markdown_table
from regard.networks import NETWORKS
from regard.networks.counting import CONVENTIONS, count

PAGE = Path(__file__).parent / "networks.md"
HEAD = """# Networks

Made by `docs/networks.py`. `regard.network(NAME)` builds each of these, and `regard network
measure NAME` counts it. The published figures stand as they are printed, next to what is counted
here on the same input; a difference of 0 % is one that the printed digits do not show. What is
counted here as MACs are convolutions and matrix products; what is published follows one of these
conventions:

"""


def page() -> str:
    """What the file should hold."""
    conventions = "".join(f"- `{name}`: {text}\n" for name, text in CONVENTIONS.items())
    remarks = "".join(f"- `{n.name}`: {n.remark}\n" for n in NETWORKS.values() if n.remark)
    table = markdown_table(count(network) for network in NETWORKS.values())
    return f"{HEAD}{conventions}\n{table}\n{remarks}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
