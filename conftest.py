"""What every example in a docstring may use without importing it."""

import os

import pytest
import torch

if "KERAS_BACKEND" not in os.environ:  # a run has one backend, or none
    collect_ignore = ["src/regard/keras", "tests/keras"]


@pytest.fixture(autouse=True)
def names(doctest_namespace):
    doctest_namespace["torch"] = torch
