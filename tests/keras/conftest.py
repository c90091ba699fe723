"""One backend per run: ``KERAS_BACKEND=jax pytest tests/keras``."""

import os
import warnings

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

with warnings.catch_warnings():  # the backends warn about themselves
    warnings.simplefilter("ignore")
    import keras
    from keras.src.backend.common import dtypes

import pytest

# Keras promotes types to single precision, on every backend but TensorFlow. The equality of twins
# is tested in double precision: in single precision, rounding could hide a small mistake.
# This patches a private table of Keras; tests with the fixture `stock_keras` run without it.
STOCK = dtypes.BIT64_TO_BIT32_DTYPE["float64"]
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def pytest_collection_modifyitems(items):
    """Mark variants and goldens as slow on all backends but torch."""
    for item in items:
        # NumPy 2 warns about the way in which Keras reads its variables.
        item.add_marker(pytest.mark.filterwarnings("ignore:__array__ implementation"))
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        golden = "numbers_of_the_reference" in item.name
        if ((case is not None and case.changed) or golden) and keras.backend.backend() != "torch":
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def double_precision():
    keras.config.set_floatx("float64")
    keras.utils.set_random_seed(0)
    yield
    keras.utils.clear_session(free_memory=False)  # a full collection takes a second


@pytest.fixture
def stock_keras(double_precision, monkeypatch):
    """Use single precision and the type promotion of Keras as it is released."""
    monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", STOCK)
    keras.config.set_floatx("float32")
