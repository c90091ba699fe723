"""One backend for each run: ``KERAS_BACKEND=jax pytest tests/keras``."""

import os
import warnings

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with warnings.catch_warnings():  # the backends warn about themselves
    warnings.simplefilter("ignore")
    import keras
    from keras.src.backend.common import dtypes

import pytest

# Keras works in single precision where a type is to be found, on every backend but TensorFlow.
# The equality of twins is shown in double precision, or a small mistake would hide in the rounding.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def pytest_collection_modifyitems(items):
    """Mark what another backend tries within the fast suite: variants and all goldens, by torch."""
    for item in items:
        # Keras reads its variables in a way that NumPy 2 warns of.
        item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation"))
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        varied = (case is not None and case.changed) or "numbers_of_the_reference" in item.name
        if varied and keras.backend.backend() != "torch":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def double_precision():
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)  # a full collection takes a second
