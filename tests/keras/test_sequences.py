"""Attention between sequences: masks, those of Keras itself included, and unknown lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from twins import Pair, gradient, options, pair, to_torch, twin, twin_cases

import regard.keras as twins
from cases import Case, draw
from closeness import assert_same
from regard.core.attention import SequenceAttention
from regard.core.shapes import split

SEQUENCES = [case for case in twin_cases() if issubclass(case.cls, SequenceAttention)]
each_case = pytest.mark.parametrize("case", SEQUENCES, ids=str)
each_example = pytest.mark.parametrize("case", [c for c in SEQUENCES if not c.changed], ids=str)


def scores(found: Pair) -> tuple[int, ...]:
    """Return the shape of the scores that a mask covers: without keys that the layer appends."""
    z = found.module.prepare(*found.inputs)
    shape = found.module.attention(z, None).shape
    return (*shape[:-1], found.inputs[1].shape[1])


def random_mask(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Create a mask that forbids the first query everything."""
    closed = torch.rand(shape) < 0.4
    closed[..., 0, :] = True
    bias = torch.randn(shape, dtype=torch.float64)
    return ~closed if kind == "boolean" else bias.masked_fill(closed, -torch.inf)


@each_case
@pytest.mark.parametrize("shared", [False, True], ids=["whole", "shared"])
@pytest.mark.parametrize("kind", ["boolean", "bias"])
def test_masks_do_what_they_do_in_torch(case: Case, kind: str, shared: bool) -> None:
    """Compare output, map and gradients, with a mask per head or one for all; none is NaN."""
    found = pair(case)
    module, inputs = found.module, found.inputs
    shape = scores(found)[2:] if shared else scores(found)
    mask = random_mask(kind, shape)
    found.masks = {"attention_mask": mask}

    leaves = [x.clone().requires_grad_() for x in inputs]
    y = module(*leaves, mask=mask)
    cotangent = torch.randn_like(y)
    want = torch.autograd.grad(y, leaves, cotangent)
    masks = found.mask_arrays
    twin_y, a = found.layer.call_with_map(*found.arrays, **masks)
    assert_same(to_torch(twin_y), y)
    assert_same(to_torch(a), module.attention(module.prepare(*inputs), mask=mask), "map")
    got = gradient(found.layer, found.arrays, [cotangent], **masks)
    assert_same(to_torch(got), list(want), "gradient")


@each_example
@pytest.mark.parametrize("kind", ["boolean", "bias"])
def test_a_query_that_may_attend_to_nothing_gets_zeros(case: Case, kind: str) -> None:
    found = pair(case)
    found.masks = {"attention_mask": random_mask(kind, scores(found))}
    a = to_torch(found.layer.call_with_map(*found.arrays, **found.mask_arrays)[1])
    assert not a[..., 0, :].any() and a[..., 1:, :].any()


def one_width(case: Case) -> bool:
    """Return whether queries, keys and values have the same number of channels."""
    return len({x.shape[-1] for x in draw(case.fresh())}) == 1


def padded(case: Case) -> tuple[Pair, torch.Tensor, Any, torch.Tensor]:
    """Return a pair, a padded sequence, the sequence masked by Keras, and that mask for a map."""
    found = pair(case)
    x = found.inputs[0].clone()
    x[0, 5:] = 0.0
    x[1, 8:] = 0.0
    masked = keras.layers.Masking(dtype="float64")(keras.ops.convert_to_tensor(x.numpy()))
    heads = len(scores(found)) - 2
    return found, x, masked, (x != 0).any(-1).reshape(len(x), *[1] * heads, -1)


@pytest.mark.parametrize("case", [c for c in SEQUENCES if one_width(c)], ids=str)
@pytest.mark.parametrize("kind", [None, "boolean", "bias"])
def test_keys_that_keras_masks_get_no_weight(case: Case, kind: str | None) -> None:
    """Test self-attention, masked keys and masked values, without and with a mask of the caller."""
    found, x, masked, mask = padded(case)
    if kind:
        own = random_mask(kind, (x.shape[1], x.shape[1]))
        found.masks = {"attention_mask": own}
        mask = own & mask if kind == "boolean" else own.masked_fill(~mask, -torch.inf)
    z, q = found.inputs[0], found.arrays[0]
    assert_same(to_torch(found.layer(masked, **found.mask_arrays)), found.module(x, mask=mask))
    assert_same(
        to_torch(found.layer(q, masked, **found.mask_arrays)), found.module(z, x, mask=mask)
    )
    as_values = found.layer(q, q, masked, **found.mask_arrays)
    assert_same(to_torch(as_values), found.module(z, z, x, mask=mask))


@each_example
def test_the_output_has_the_mask_of_the_queries(case: Case) -> None:
    """Keras expects layers that support masks to pass them to the layers after them."""
    found, _, masked, mask = padded(case)
    for y in (found.layer(masked), found.layer(masked, found.arrays[0])):
        assert torch.equal(to_torch(y._keras_mask), mask.flatten(1))


@each_example
def test_words_that_an_embedding_masks_change_nothing(case: Case) -> None:
    """Test a functional model of unknown length, and its maps."""
    width = pair(case).inputs[0].shape[-1]
    # A convolution in parallel reads masked words too, unless this option is set.
    masking = {name: True for name in options(case.cls) if name == "mask_values"}
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(50, width, mask_zero=True)(words)
    y = twin(case.cls.__name__, {**case.options, **masking}, name="attention")(x)
    model = keras.Model(words, y)
    assert y.shape == (None, None, width)

    few = np.array([[3, 1, 4], [1, 5, 9]])
    more = np.pad(few, ((0, 0), (0, 4)))
    assert_same(to_torch(model(more))[:, :3], to_torch(model(few)))
    a = to_torch(twins.maps(model)(more)["attention"])
    assert not a[..., 3:].any() and torch.allclose(a.sum(-1), torch.ones(()).double())
    assert_same(torch.tensor(model.predict(more, verbose=0)), to_torch(model(more)))


@each_example
def test_key_channels_must_match_if_the_card_says_so(case: Case) -> None:
    found = pair(case)
    fresh, x = type(found.layer).from_config(found.layer.get_config()), found.arrays[0]
    if split(case.axes.input)["key"].split()[-1] == "d":
        with pytest.raises(ValueError, match=r"key: expected axis d = \d+ in \(b . d\), got"):
            fresh(x, x[..., :-1])
    else:
        assert fresh(x, x[..., :-1]).shape == x.shape


@each_case
def test_a_model_with_keys_and_a_mask_comes_back_from_its_file(case: Case, tmp_path: Path) -> None:
    """All lengths are unknown."""
    found = pair(case)
    inputs = [keras.Input((None, x.shape[-1])) for x in found.inputs]
    shape = scores(found)
    mask = keras.Input((None,) * (len(shape) - 1), dtype="bool")
    y = found.layer(*inputs, attention_mask=mask)
    assert y.shape == (None, None, found.inputs[0].shape[-1])
    path = tmp_path / "model.keras"
    keras.Model([*inputs, mask], y).save(path)

    found.masks = {"attention_mask": random_mask("boolean", shape)}
    copy = keras.models.load_model(path)
    assert_same(
        to_torch(copy([*found.arrays, *found.mask_arrays.values()])), to_torch(found.call())
    )
