"""What every example in a docstring may use without importing it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def names(doctest_namespace):
    doctest_namespace["torch"] = torch
