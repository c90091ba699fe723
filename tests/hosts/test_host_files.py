"""The files of regard.hosts need no library before they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regard import hosts

FILES = sorted(p.stem for p in Path(str(hosts.__file__)).parent.glob("[!_]*.py"))


def test_files_are_imported_by_name_and_without_their_libraries():
    code = (
        "import sys, regard\n"
        f"for name in {FILES!r}: getattr(regard.hosts, name)\n"
        "libraries = {'ultralytics', 'transformers', 'lightning', 'huggingface_hub', 'timm'}\n"
        "assert not libraries & set(sys.modules), libraries & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(FILES) == 6


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match=r"module 'regard\.hosts' has no attribute 'mmseg'"):
        hosts.mmseg  # noqa: B018
