"""The example runs as it stands."""

from __future__ import annotations

import runpy
from pathlib import Path

import keras

EXAMPLE = Path(__file__).parents[2] / "examples" / "keras_digits.py"


def test_digits_are_read(capsys) -> None:
    keras.config.set_floatx("float32")
    accuracy = runpy.run_path(str(EXAMPLE))["main"](["--epochs", "6"])
    told = capsys.readouterr().out
    assert accuracy > 0.6  # one in ten by chance
    assert "it predicts the same" in told
    assert "attention0 shows a map of (1, 8, 8, 16)" in told
