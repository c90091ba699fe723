"""``python -m regard.compat script.py``: run an old script."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from . import install


def main() -> None:
    """Run a script as Python would, after `install`."""
    parser = argparse.ArgumentParser(
        prog="python -m regard.compat",
        description="Run a script in which attention.X, model.attention.X, model.conv.X and "
        "fightingcv_attention.attention.X are the mechanisms of regard.",
    )
    parser.add_argument(
        "--legacy-behavior",
        action="store_true",
        help="compute what the old classes did, where a mechanism has an option for it",
    )
    parser.add_argument(
        "--framework",
        choices=("torch", "keras"),
        help="framework of attention.X; by default keras if the script imports TensorFlow",
    )
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")
    options = parser.parse_args()
    if not options.script.is_file():
        parser.error(f"no such file: {options.script}")
    install(framework=options.framework, legacy_behavior=options.legacy_behavior)
    sys.argv = [str(options.script), *options.args]
    sys.path[0] = str(options.script.resolve().parent)
    runpy.run_path(str(options.script), run_name="__main__")


if __name__ == "__main__":
    main()
