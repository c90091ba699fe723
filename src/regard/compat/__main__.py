"""``python -m regard.compat script.py``: run an old script."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from . import install


def main() -> None:
    """Run a script as python would, with the old modules in place."""
    parser = argparse.ArgumentParser(
        prog="python -m regard.compat",
        description="Run a script in which attention.X, model.attention.X, model.conv.X and "
        "fightingcv_attention.attention.X are the mechanisms of regard.",
    )
    parser.add_argument(
        "--legacy-behavior",
        action="store_true",
        help="have classes do what the old ones did, where a mechanism has an option for it",
    )
    parser.add_argument(
        "--framework",
        choices=("torch", "keras"),
        help="whose classes attention.X has; by default Keras' if the script imports TensorFlow",
    )
    parser.add_argument("script", type=Path, help="the script")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="what the script gets")
    given = parser.parse_args()
    if not given.script.is_file():
        parser.error(f"no such file: {given.script}")
    install(framework=given.framework, legacy_behavior=given.legacy_behavior)
    sys.argv = [str(given.script), *given.args]
    sys.path[0] = str(given.script.resolve().parent)
    runpy.run_path(str(given.script), run_name="__main__")


if __name__ == "__main__":
    main()
