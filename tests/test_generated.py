"""What is made from the cards is as the cards have it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def script(stem):
    """One of the scripts that make tables."""
    spec = importlib.util.spec_from_file_location(stem, DOCS / f"{stem}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def catalog():
    return script("catalog")


@pytest.mark.parametrize("stem", ["catalog", "migrating"])
def test_generated_text_is_fresh(stem):
    for path, text in script(stem).generated().items():
        assert path.read_text("utf-8") == text, f"{path.name}: `make catalog`"


def test_every_name_of_the_package_is_in_the_stub(catalog):
    import regard

    declared = catalog.stub()
    missing = [name for name in dir(regard) if name not in declared]
    assert not missing, f"{missing}: `make catalog`"


def test_a_readme_without_its_markers_is_refused(catalog, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# Nothing\n")
    with pytest.raises(ValueError, match=r"README\.md: wanted <!-- catalog -->"):
        catalog.readme(readme, catalog.HEADINGS)
