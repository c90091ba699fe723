"""The usage examples of the older library, in Keras: the shapes that they print."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest

from regard import keras as twins

IMAGES, TOKENS = (50, 7, 7, 512), (50, 49, 512)
WIDE = {"head_dim": 512, "value_head_dim": 512}


def efficient() -> keras.Sequential:
    """Create a model for the tokens of an image of 8 rows and 8 columns."""
    attention = twins.EfficientMultiHead(8, 2, **WIDE)
    to_image, to_tokens = keras.layers.Reshape((8, 8, 512)), keras.layers.Reshape((64, 512))
    return keras.Sequential([to_image, attention, to_tokens])


# Name, constructor, shape of the input, printed shape of the output.
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
    ("build", "shape", "printed"), [row[1:] for row in USAGE], ids=[row[0] for row in USAGE]
)
def test_it_prints_the_documented_shape(
    build: Callable[[], Any],
    shape: tuple[int, ...],
    printed: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    keras.config.set_floatx("float32")
    output = build()(keras.random.normal(shape))
    print(tuple(output.shape))
    assert capsys.readouterr().out == f"{printed}\n"
