"""The usage that people know these mechanisms by, in Keras: the shapes that it prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from regard import keras as twins

IMAGES, TOKENS = (50, 7, 7, 512), (50, 49, 512)
WIDE = {"head_width": 512, "value_head_width": 512}


def efficient() -> keras.Sequential:
    """Tokens that are an image of 8 rows and 8 columns."""
    rows, attend = keras.layers.Reshape((64, 512)), twins.EfficientMultiHead(8, 2, **WIDE)
    return keras.Sequential([keras.layers.Reshape((8, 8, 512)), attend, rows])


# What it is, how it is built, the shape of its input, the shape that is printed.
USAGE = [
    ("residual", lambda: twins.ClassResidual(1000, residual_weight=0.2), IMAGES, (50, 1000)),
    ("external", lambda: twins.ExternalAttention(8), TOKENS, TOKENS),
    ("self", lambda: twins.MultiHead(8, **WIDE), TOKENS, TOKENS),
    ("simplified-self", lambda: twins.SimplifiedAttention(8), TOKENS, TOKENS),
    ("squeeze-excitation", lambda: twins.SqueezeExcitation(8), IMAGES, IMAGES),
    ("selective-kernel", lambda: twins.SelectiveKernel(reduction=8), IMAGES, IMAGES),
    ("cbam", lambda: twins.CBAM(16, kernel_size=7), IMAGES, IMAGES),
    ("bam", lambda: twins.BAM(16, dilation=2), IMAGES, IMAGES),
    ("eca", lambda: twins.ECA(3), IMAGES, IMAGES),
    ("dual", lambda: twins.DualAttention(), IMAGES, IMAGES),
    ("pyramid-split", lambda: twins.PyramidSplit(reduction=8), IMAGES, IMAGES),
    ("efficient", efficient, (50, 64, 512), (50, 64, 512)),
    ("shuffle", lambda: twins.ShuffleAttention(8), IMAGES, IMAGES),
    ("muse", lambda: twins.MUSE(8, **WIDE), TOKENS, TOKENS),
    ("spatial-group", lambda: twins.SpatialGroupEnhance(8), IMAGES, IMAGES),
]


@pytest.mark.parametrize(
    ("build", "given", "printed"), [row[1:] for row in USAGE], ids=[row[0] for row in USAGE]
)
def test_it_prints_the_documented_shape(
    build: Callable[[], Any],
    given: tuple[int, ...],
    printed: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    keras.config.set_floatx("float32")
    output = build()(keras.random.normal(given))
    print(tuple(output.shape))
    assert capsys.readouterr().out == f"{printed}\n"
