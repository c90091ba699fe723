"""No host library may read settings of the user, or reach outside."""

import os
import tempfile
from pathlib import Path

SOURCES = str(Path(__file__).parents[2] / "src")  # also for processes in other folders
HOME = tempfile.TemporaryDirectory(prefix="regard-hosts-")
os.environ |= {
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
    "YOLO_VERBOSE": "False",
    "YOLO_CONFIG_DIR": HOME.name,
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, [SOURCES, os.environ.get("PYTHONPATH")])),
}
