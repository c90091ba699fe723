"""Old scripts for TensorFlow: each old class is a twin with channels last."""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from regard import compat
from regard import keras as twins
from regard.compat.legacy import Changed, LegacyClass, classes
from regard.compat.settings import settings

LEGACY = [old for old in classes() if old.legacy.keras]
IMAGES, TOKENS = (50, 7, 7, 512), (50, 49, 512)
HEADS = "d_model=512, d_k=512, d_v=512, h=8"

# Module, class, arguments, input shape, output shape that the old documentation prints; queries are
# keys and values.
PRINTED = (
    ("ResidualAttention", "ResidualAttention", "num_class=1000, la=0.2", IMAGES, (50, 1000)),
    ("ExternalAttention", "ExternalAttention", "d_model=512, S=8", TOKENS, TOKENS),
    ("SelfAttention", "ScaledDotProductAttention", HEADS, TOKENS, TOKENS),
    (
        "SimplifiedSelfAttention",
        "SimplifiedScaledDotProductAttention",
        "d_model=512, h=8",
        TOKENS,
        TOKENS,
    ),
    ("SEAttention", "SEAttention", "channel=512, reduction=8", IMAGES, IMAGES),
    ("SKAttention", "SKAttention", "channel=512, reduction=8", IMAGES, IMAGES),
    ("CBAM", "CBAMBlock", "channel=512, reduction=16, kernel_size=7", IMAGES, IMAGES),
    ("BAM", "BAMBlock", "channel=512, reduction=16, dia_val=2", IMAGES, IMAGES),
    ("ECAAttention", "ECAAttention", "kernel_size=3", IMAGES, IMAGES),
    ("DANet", "DAModule", "d_model=512, kernel_size=3, H=7, W=7", IMAGES, IMAGES),
    ("PSA", "PSA", "channel=512, reduction=8", IMAGES, IMAGES),
    (
        "EMSA",
        "EMSA",
        f"{HEADS}, H=8, W=8, ratio=2, apply_transform=True",
        (50, 64, 512),
        (50, 64, 512),
    ),
    ("ShuffleAttention", "ShuffleAttention", "channel=512, G=8", IMAGES, IMAGES),
    ("MUSEAttention", "MUSEAttention", HEADS, TOKENS, TOKENS),
    ("SGE", "SpatialGroupEnhance", "groups=8", IMAGES, IMAGES),
)
each_block = pytest.mark.parametrize("block", PRINTED, ids=lambda block: block[1])


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    compat.install(framework="keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Changed)
        yield
    compat.uninstall()


def row(block: tuple) -> LegacyClass:
    return next(old for old in LEGACY if old.name == block[1])


def build(block: tuple, arguments: str | None = None) -> Any:
    """Create an object of an old class, with fewer channels."""
    cls = getattr(importlib.import_module(f"attention.{block[0]}"), block[1])
    return eval(f"cls({small(block[2]) if arguments is None else arguments})", {"cls": cls})


def small(arguments: str) -> str:
    return re.sub(r"\b512\b", "32", arguments).replace("reduction=16", "reduction=8")


def example(block: tuple) -> Any:
    return keras.random.normal([2, *(32 if size == 512 else size for size in block[3][1:])])


def inputs(block: tuple, x: Any) -> list[Any]:
    return [x] * 3 if row(block).legacy.call else [x]


def test_every_old_class_is_tested() -> None:
    assert {old.name for old in LEGACY} == {block[1] for block in PRINTED}


@each_block
def test_usage_prints_what_the_document_says(
    block: tuple, capsys: pytest.CaptureFixture[str]
) -> None:
    keras.config.set_floatx("float32")
    module, name, arguments, shape, printed = block
    called = "input, input, input" if row(block).legacy.call else "input"
    exec(
        f"from attention.{module} import {name}\nimport keras\n\n"
        f"input = keras.random.normal(shape={shape})\nlayer = {name}({arguments})\n"
        f"output = layer({called})\nprint(tuple(output.shape))",
        {},
    )
    assert capsys.readouterr().out == f"{printed}\n"


@each_block
def test_it_is_the_twin(block: tuple) -> None:
    layer = build(block)
    assert isinstance(layer, getattr(twins, row(block).new))
    assert layer.card.title
    x = example(block)
    want = layer(*inputs(block, x))
    arguments = inputs(block, x) if row(block).legacy.call == "Queries" else [x]
    y, a = layer.call_with_map(*arguments)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (y, want)))
    assert keras.tree.flatten(a)


@each_block
def test_models_are_saved_and_loaded(block: tuple, tmp_path: Path) -> None:
    x = example(block)
    symbol = keras.Input(x.shape[1:])
    model = keras.Model(symbol, build(block)(*inputs(block, symbol)))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.layers[-1]) is type(model.layers[-1])
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (again(x), model(x))))


@each_block
def test_a_difference_is_reported_once(block: tuple) -> None:
    settings.warned.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Changed)
        build(block)
        build(block)
    messages = [str(w.message) for w in caught if w.category is Changed]
    difference = row(block).differs("keras")
    assert len(messages) == bool(difference)
    assert all(text.startswith(f"{block[1]} {difference}; regard.keras.") for text in messages)


def test_the_old_behavior_is_available() -> None:
    compat.install(framework="keras", legacy_behavior=True)
    block = next(block for block in PRINTED if block[1] == "CBAMBlock")
    assert build(block).get_config()["residual"]
    assert build(block, "32, 8, 7, name='mine'").name == "mine"
    with pytest.raises(
        TypeError, match='CBAMBlock: no argument "residua"; did you mean "residual"'
    ):
        build(block, "residua=True")


def test_masks_forbid_attention_where_they_are_true() -> None:
    from attention.SelfAttention import ScaledDotProductAttention as Old

    x, masked = np.random.default_rng(0).normal(size=(2, 5, 8)), np.zeros((2, 2, 5, 5), bool)
    masked[..., 3] = True
    other = x.copy()
    other[:, 3] += 1
    attention = Old(8, 4, 4, 2)
    got = [attention(x, z, z, attention_mask=masked) for z in (x, other)]
    np.testing.assert_allclose(*map(ops.convert_to_numpy, got))


def test_tokens_of_an_image_are_checked() -> None:
    from attention.EMSA import EMSA

    x = keras.random.normal((1, 24, 8))
    layer = EMSA(8, 2, 2, 4, H=4, W=6, ratio=2, droupout=0.2)
    with pytest.raises(ValueError, match="EMSA: keys and values must be the queries"):
        layer(x, x + 1, x)
    layer(x, x, x)
    with pytest.raises(ValueError, match=r"EMSA: expected \(b 24 c\) for H, W = \(4, 6\), got"):
        layer(x[:, 1:])


def test_a_class_without_a_twin_raises() -> None:
    with pytest.raises(ImportError, match=r"regard\.Triplet has no twin|Triplet"):
        exec("from attention.TripletAttention import TripletAttention", {})
