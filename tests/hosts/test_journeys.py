"""Every step of every library; `python tests/hosts/journeys.py` writes the table of the page."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest
from journeys import JOURNEYS, NONE, PAGE, STEPS, Journey, rows

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize(
    "journey",
    [
        pytest.param(one, id=f"{one.library}-{one.name}", marks=[pytest.mark.slow] * one.slow)
        for one in JOURNEYS
    ],
)
def test_every_step(journey: Journey, tmp_path, monkeypatch):
    try:
        version(journey.library)
    except PackageNotFoundError:
        pytest.skip(f"{journey.library} is not installed")
    monkeypatch.chdir(tmp_path)
    cells = journey.run(tmp_path)
    assert cells.keys() == STEPS.keys() and int(cells["insert"]) > 1
    assert {step for step, cell in cells.items() if cell == NONE} == journey.without.keys()


def test_the_page_has_every_row():
    found = rows()
    assert list(found) == [(one.library, one.name) for one in JOURNEYS]
    for one in JOURNEYS:
        empty = {step for step, cell in found[one.library, one.name].items() if cell == NONE}
        assert empty == one.without.keys(), one.name
    for step, meaning in STEPS.items():
        assert f"| {step} | {meaning} |" in PAGE.read_text("utf-8"), step


def test_each_library_has_a_row_in_the_fast_suite():
    assert {one.library for one in JOURNEYS} == {o.library for o in JOURNEYS if not o.slow}
    assert len({one.library for one in JOURNEYS}) >= 6 and len(JOURNEYS) >= 12
