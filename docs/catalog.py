"""Rewrite what is made from the cards: the tables of the READMEs and the stub of the package."""

from __future__ import annotations

import re
from pathlib import Path

import regard
from regard.catalog import find, homes
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
    }


def readme(path: Path, headings: tuple[str, ...], code: str = "code") -> str:
    """A README with its table made new."""
    text = path.read_text("utf-8")
    table = markdown_table(find(), headings, code)
    renewed, times = BETWEEN.subn(lambda found: f"{found[1]}\n{table}\n{found[2]}", text)
    if times != 1:
        raise ValueError(f"{path.name}: wanted <!-- catalog --> … <!-- /catalog --> once")
    return renewed


def stub() -> str:
    """Every name of the package, for editors and type checkers, which do not run its code."""
    modules: dict[str, str] = dict(vars(regard)["_TOOLS"])
    modules |= {name: f"mechanisms.{key}" for name, key in homes().items()}
    imports = sorted(f"from .{module} import {name} as {name}" for name, module in modules.items())
    return "\n".join(['"""Made by docs/catalog.py."""', "", *imports, "", "__version__: str", ""])


def main() -> None:
    """Write every file that is not as it should be."""
    for path, text in generated().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(f"{path.relative_to(ROOT)} rewritten")


if __name__ == "__main__":
    main()
