"""Run a script in which timm knows the networks.

``python -m regard.networks train.py --model regard_se_resnet50 …``, with timm's ``train.py``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from .build import register

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python -m regard.networks wants a script and its arguments, got none")
    register()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)  # as if the script were run itself
    runpy.run_path(sys.argv[0], run_name="__main__")
