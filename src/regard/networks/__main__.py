"""Run a script with the networks registered in timm, for example timm's ``train.py``.

``python -m regard.networks train.py --model regard_se_resnet50 …``
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from .build import register

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("python -m regard.networks: expected a script and its arguments, got none")
    register()
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(sys.argv[0]).parent)  # as if the script were run directly
    runpy.run_path(sys.argv[0], run_name="__main__")
