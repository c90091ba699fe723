"""Attention between sequences: masks of torch and of Keras, lengths that come later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from twins import Pair, gradient, numbers, options, pair, pairs_of, twin

import regard.keras as twins
from cases import Case, draw
from closeness import assert_same
from regard.core.attention import SequenceAttention
from regard.core.shapes import split

SEQUENCES = [case for case in pairs_of() if issubclass(case.cls, SequenceAttention)]
each_case = pytest.mark.parametrize("case", SEQUENCES, ids=str)
each_example = pytest.mark.parametrize("case", [c for c in SEQUENCES if not c.changed], ids=str)


def scores(found: Pair) -> tuple[int, ...]:
    """The shape of what a mask is broadcast to: the map, without keys that the layer appends."""
    z = found.module.prepare(*found.inputs)
    shape = found.module.attention(z, None).shape
    return (*shape[:-1], found.inputs[1].shape[1])


def drawn(kind: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A mask, which leaves the first query nothing."""
    closed = torch.rand(shape) < 0.4
    closed[..., 0, :] = True
    bias = torch.randn(shape, dtype=torch.float64)
    return ~closed if kind == "boolean" else bias.masked_fill(closed, -torch.inf)


@each_case
@pytest.mark.parametrize("shared", [False, True], ids=["whole", "shared"])
@pytest.mark.parametrize("kind", ["boolean", "bias"])
def test_masks_do_what_they_do_in_torch(case: Case, kind: str, shared: bool) -> None:
    """Output, map and gradients, of a mask for each head or one for all; no gradient is NaN."""
    found = pair(case)
    module, inputs = found.module, found.inputs
    shape = scores(found)[2:] if shared else scores(found)
    given = {"attention_mask": drawn(kind, shape)}
    ours = {"mask": given["attention_mask"]}
    found.masks = given

    leaves = [x.clone().requires_grad_() for x in inputs]
    y = module(*leaves, **ours)
    cotangent = torch.randn_like(y)
    want = torch.autograd.grad(y, leaves, cotangent)
    masks = found.given
    seen, a = found.layer.see(*found.arrays, **masks)
    assert_same(numbers(seen), y)
    assert_same(numbers(a), module.attention(module.prepare(*inputs), **ours), "map")
    got = gradient(found.layer, found.arrays, [cotangent], **masks)
    assert_same(numbers(got), list(want), "gradient")


@each_example
@pytest.mark.parametrize("kind", ["boolean", "bias"])
def test_a_query_that_may_attend_to_nothing_gets_zeros(case: Case, kind: str) -> None:
    found = pair(case)
    found.masks = {"attention_mask": drawn(kind, scores(found))}
    a = numbers(found.layer.see(*found.arrays, **found.given)[1])
    assert not a[..., 0, :].any() and a[..., 1:, :].any()


def one_width(case: Case) -> bool:
    """Whether the queries can be keys as well."""
    return len({x.shape[-1] for x in draw(case.fresh())}) == 1


def padded(case: Case) -> tuple[Pair, torch.Tensor, Any, torch.Tensor]:
    """A padded sequence, the same as Keras masks it, and which keys that leaves open to a map."""
    found = pair(case)
    x = found.inputs[0].clone()
    x[0, 5:] = 0.0
    x[1, 8:] = 0.0
    masked = keras.layers.Masking(dtype="float64")(keras.ops.convert_to_tensor(x.numpy()))
    heads = len(scores(found)) - 2
    return found, x, masked, (x != 0).any(-1).reshape(len(x), *[1] * heads, -1)


@pytest.mark.parametrize("case", [c for c in SEQUENCES if one_width(c)], ids=str)
@pytest.mark.parametrize("kind", [None, "boolean", "bias"])
def test_keys_that_keras_masks_are_closed(case: Case, kind: str | None) -> None:
    """In self-attention, as keys and as values; alone and beside a mask of the caller."""
    found, x, masked, mask = padded(case)
    if kind:
        given = drawn(kind, (x.shape[1], x.shape[1]))
        found.masks = {"attention_mask": given}
        mask = given & mask if kind == "boolean" else given.masked_fill(~mask, -torch.inf)
    z, q = found.inputs[0], found.arrays[0]
    assert_same(numbers(found.layer(masked, **found.given)), found.module(x, mask=mask))
    assert_same(numbers(found.layer(q, masked, **found.given)), found.module(z, x, mask=mask))
    as_values = found.layer(q, q, masked, **found.given)
    assert_same(numbers(as_values), found.module(z, z, x, mask=mask))


@each_example
def test_the_mask_of_the_queries_goes_on(case: Case) -> None:
    """To the layers behind, as Keras expects it of layers that know masks."""
    found, _, masked, may = padded(case)
    for y in (found.layer(masked), found.layer(masked, found.arrays[0])):
        assert torch.equal(numbers(y._keras_mask), may.flatten(1))


@each_example
def test_words_of_unknown_number_masked_by_their_embedding(case: Case) -> None:
    """A functional model and its maps; words that are masked change nothing."""
    width = pair(case).inputs[0].shape[-1]
    # A convolution beside the attention reads masked words as well, unless it is told.
    told = {name: True for name in options(case.cls) if name == "mask_values"}
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(50, width, mask_zero=True)(words)
    y = twin(case.cls.__name__, {**case.options, **told}, name="attention")(x)
    model = keras.Model(words, y)
    assert y.shape == (None, None, width)

    few = np.array([[3, 1, 4], [1, 5, 9]])
    more = np.pad(few, ((0, 0), (0, 4)))
    assert_same(numbers(model(more))[:, :3], numbers(model(few)))
    a = numbers(twins.maps(model)(more)["attention"])
    assert not a[..., 3:].any() and torch.allclose(a.sum(-1), torch.ones(()).double())
    assert_same(torch.tensor(model.predict(more, verbose=0)), numbers(model(more)))


@each_example
def test_widths_that_must_agree_are_refused_unless_they_do(case: Case) -> None:
    found = pair(case)
    fresh, x = type(found.layer).from_config(found.layer.get_config()), found.arrays[0]
    if split(case.axes.input)["key"].split()[-1] == "d":
        with pytest.raises(ValueError, match=r"key: expected axis d = \d+ in \(b . d\), got"):
            fresh(x, x[..., :-1])
    else:
        assert fresh(x, x[..., :-1]).shape == x.shape


@each_case
def test_a_model_with_keys_and_a_mask_comes_back_from_its_file(case: Case, tmp_path: Path) -> None:
    """Of unknown lengths, all of them."""
    found = pair(case)
    inputs = [keras.Input((None, x.shape[-1])) for x in found.inputs]
    shape = scores(found)
    mask = keras.Input((None,) * (len(shape) - 1), dtype="bool")
    y = found.layer(*inputs, attention_mask=mask)
    assert y.shape == (None, None, found.inputs[0].shape[-1])
    path = tmp_path / "model.keras"
    keras.Model([*inputs, mask], y).save(path)

    found.masks = {"attention_mask": drawn("boolean", shape)}
    copy = keras.models.load_model(path)
    assert_same(numbers(copy([*found.arrays, *found.given.values()])), numbers(found.call()))
