"""The example script runs."""

from __future__ import annotations

import runpy
from pathlib import Path

import keras

EXAMPLE = Path(__file__).parents[2] / "examples" / "keras_digits.py"


def test_digits_are_recognized(capsys) -> None:
    keras.config.set_floatx("float32")
    accuracy = runpy.run_path(str(EXAMPLE))["main"](["--epochs", "6"])
    output = capsys.readouterr().out
    assert accuracy > 0.6  # by chance it is 0.1
    assert "it predicts the same" in output
    assert "attention0 shows a map of (1, 8, 8, 16)" in output
