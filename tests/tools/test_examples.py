"""The examples run, draw what they promise, and reach what they claim."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run an example as from the command line; what it prints."""

    def run(name: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def assert_drawn(path: Path) -> None:
    """There is a picture of some size, and something on it."""
    with Image.open(path) as picture:
        assert min(picture.size) > 100
        assert len(picture.convert("L").getcolors(256) or ()) > 50


def shares(printed: str) -> list[float]:
    """The shares of held-out digits, line by line."""
    return [float(share) / 100 for share in re.findall(r"([\d.]+)% of held-out digits", printed)]


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("recurrent_attention_digits", ("--steps", 2)),
        ("spatial_transformer_digits", ("--epochs", 1)),
    ],
)
def test_digits_are_read_and_drawn(run, tmp_path: Path, name: str, short: tuple) -> None:
    options = (*short, "--seeds", 3, "--threads", 1)
    printed = run(name, *options, "--picture", tmp_path / "picture.png")
    assert len(shares(printed)) == 2 and all(0 < share < 0.5 for share in shares(printed))
    assert_drawn(tmp_path / "picture.png")
    assert run(name, *options) == printed, "the seed decides everything"


@pytest.mark.slow
def test_a_gaze_that_learned_reads_more_than_one_held_at_the_center(run) -> None:
    center, policy = shares(
        run("recurrent_attention_digits", "--steps", 1500, "--seeds", 0, "--threads", 1)
    )
    assert policy > center + 0.05


@pytest.mark.slow
def test_a_spatial_transformer_helps(run) -> None:
    alone, behind = shares(
        run("spatial_transformer_digits", "--epochs", 30, "--seeds", 0, "--threads", 1)
    )
    assert behind > alone + 0.15


def test_transformer_reverse(run, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    printed = run("transformer_reverse", "--steps", 3, "--threads", 1, "--picture", picture)
    assert re.search(r"without a fault: +0\.0%", printed)
    assert "the same digits" in printed, "with the cache and without"
    assert_drawn(picture)


@pytest.mark.slow
def test_transformer_reverse_learns(run) -> None:
    """And looks at the source backwards: much more at the mirrored digit than by chance."""
    printed = run("transformer_reverse", "--steps", 400, "--threads", 1)
    right, looked, chance = (float(share) for share in re.findall(r"([\d.]+)%", printed))
    assert right > 95
    assert looked > 2 * chance
    assert "the same digits" in printed
