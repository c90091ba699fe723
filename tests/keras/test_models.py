"""A twin is a Keras layer like others: it can be trained, saved, compiled and cast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from twins import INFERRED, pair, stems, to_torch, twin_cases

import regard.keras as twins
from cases import claims_of
from closeness import assert_same
from regard.catalog import entries
from regard.core.shapes import split

each_stem = pytest.mark.parametrize("stem", stems())
CHANNELS = 16


def is_sequence(stem: str) -> bool:
    """Return whether the twin takes tokens, not images."""
    return split(entries()[stem].axes.input).popitem()[1].split()[1] in ("n", "m")


def example(stem: str, **more: Any) -> Any:
    """Create the twin with the options of the mechanism's example, for inputs of 16 channels."""
    options = claims_of(stem)[entries()[stem].name].example
    options = {name: value for name, value in options.items() if name not in INFERRED}
    return getattr(twins, stems()[stem])(**options, **more)


def batch(stem: str, count: int = 5) -> np.ndarray:
    """Create random inputs, of which ``count`` are in the batch."""
    shape = (count, 9, CHANNELS) if is_sequence(stem) else (count, 8, 6, CHANNELS)
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def build(stem: str, **more: Any) -> keras.Model:
    """Create a small model around a twin, with unknown batch size, height and width, or length."""
    if is_sequence(stem):
        x = keras.Input((None, CHANNELS))
        z = keras.layers.Dense(CHANNELS)(x)
        y = example(stem, name="attention", **more)(z)
        y = keras.layers.GlobalAveragePooling1D()(y)
    else:
        x = keras.Input((None, None, CHANNELS))
        z = keras.layers.Conv2D(CHANNELS, 3, padding="same")(x)
        y = example(stem, name="attention", data_format="channels_last", **more)(z)
        y = y[0] if isinstance(y, (list, tuple)) else y
        if len(y.shape) > 2:
            y = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(y)
    return keras.Model(x, keras.layers.Dense(3, name="scores")(y))


@pytest.fixture(autouse=True)
def single_precision(double_precision: None) -> None:
    keras.config.set_floatx("float32")


@each_stem
def test_it_is_trained_with_a_ragged_last_batch_saved_and_loaded(stem: str, tmp_path: Path) -> None:
    model = build(stem)
    model.compile("sgd", "mse")
    x = batch(stem)
    before = model.get_layer("scores").get_weights()[0].copy()
    history = model.fit(x, np.ones((5, 3), "float32"), batch_size=2, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert not np.allclose(model.get_layer("scores").get_weights()[0], before)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0), strict=True
    )
    one = again.predict(x[:1, :7], verbose=0)
    assert one.shape == (1, 3) and np.isfinite(one).all()


@each_stem
def test_compiled_it_has_the_same_output(stem: str) -> None:
    model, x = build(stem), batch(stem, 2)
    model.compile(run_eagerly=True)
    want = model.predict(x, verbose=0)
    # The torch backend compiles with inductor, which takes minutes; the mechanisms are tested so.
    jit = keras.backend.backend() != "torch"
    model.compile(jit_compile=jit)
    np.testing.assert_allclose(model.predict(x, verbose=0), want, rtol=1e-4, atol=1e-5)


@each_stem
def test_mixed_precision_keeps_single_precision_weights(stem: str) -> None:
    layer = example(stem, dtype="mixed_bfloat16")
    x = batch(stem, 2)
    y = keras.tree.flatten(layer(x))[0]
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    trained = [w for w in layer.weights if "seed_generator" not in w.path]
    assert {w.dtype for w in trained} <= {"float32"}
    plain = example(stem, dtype="float32")
    plain(x)
    plain.set_weights(layer.get_weights())
    want = to_torch(keras.tree.flatten(plain(x))[0]).double()
    got = to_torch(keras.ops.cast(y, "float32")).double()
    assert (got - want).abs().max() <= 0.05 * want.abs().max()


@each_stem
def test_its_configuration_makes_another(stem: str) -> None:
    for case in (
        case for case in twin_cases() if case.key == stem and case.cls.__name__ == stems()[stem]
    ):
        layer = pair(case).layer
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is type(layer) and again.get_config() == layer.get_config()


@each_stem
def test_its_output_shape_is_known_before_it_runs(stem: str) -> None:
    layer, x = example(stem), batch(stem, 2)
    symbolic = layer(keras.KerasTensor(x.shape))
    real = layer(x)
    assert [tuple(t.shape) for t in keras.tree.flatten(symbolic)] == [
        tuple(t.shape) for t in keras.tree.flatten(real)
    ]
    unknown = example(stem)(keras.Input((None,) * (x.ndim - 2) + (CHANNELS,)))
    assert all(t.shape[0] is None for t in keras.tree.flatten(unknown))


@each_stem
def test_maps_are_those_of_the_layers(stem: str) -> None:
    model, x = build(stem), batch(stem, 2)
    maps = twins.maps(model)(x)
    layer = model.get_layer("attention")
    z = keras.Model(model.input, layer.input)(x)
    assert_same(
        [to_torch(t).double() for t in keras.tree.flatten(maps)],
        [to_torch(t).double() for t in keras.tree.flatten(layer.call_with_map(z)[1])],
        rtol=1e-5,
    )


def test_maps_are_found_at_every_depth() -> None:
    stem = next(iter(stems()))
    inner = build(stem)
    x = keras.Input((None, None, CHANNELS))
    model = keras.Sequential([keras.Input((None, None, CHANNELS)), inner])
    assert list(twins.maps(model).output) == [f"{inner.name}/attention"]
    layer = example(stem, name="twice", data_format="channels_last")
    model = keras.Model(x, layer(layer(x)))
    assert list(twins.maps(model).output) == ["twice", "twice_1"]
    with pytest.raises(ValueError, match="no layer of regard"):
        twins.maps(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]))


def test_wrong_inputs_are_refused() -> None:
    stem = next(stem for stem in stems() if not is_sequence(stem))
    name = stems()[stem]
    with pytest.raises(ValueError, match=rf"{name}: expected .* axes, got 2: \(2, 16\)"):
        example(stem)(np.zeros((2, 16), "float32"))
    with pytest.raises(ValueError, match=rf"{name}: the channels must be known"):
        example(stem, data_format="channels_last")(keras.Input((4, 4, None)))
    with pytest.raises(ValueError, match="data_format must be one of"):
        example(stem, data_format="channels")
    with pytest.raises(ValueError, match=r"must be multiples of 2, got \(7, 6\)"):
        twins.EfficientMultiHead(upsample=True)(np.zeros((2, 7, 6, CHANNELS), "float32"))
    with pytest.raises(AttributeError, match="no attribute 'CBAMM'"):
        _ = twins.CBAMM


def test_torch_is_never_imported_but_as_the_backend() -> None:
    torch = keras.backend.backend() == "torch"
    script = (
        "import sys, regard.keras as twins, numpy as np\n"
        f"for name in {sorted(stems().values())}: getattr(twins, name)\n"
        "layer = twins.SqueezeExcitation(4)\n"
        "layer(np.zeros((2, 4, 4, 16), 'float32'))\n"
        "assert layer.card.year == 2018\n"
        f"assert ('torch' in sys.modules) == {torch}, 'torch was imported, or was not'"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
