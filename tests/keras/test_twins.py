"""A twin computes what its mechanism computes: output, map, gradients, in all its variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from twins import Pair, channels_last, gradient, numbers, options, pair, pairs_of, recording, stems

import regard.keras as twins
from cases import Case
from closeness import assert_same
from regard.catalog import entries
from regard.compat.modules import weighted
from regard.core.attention import SequenceAttention
from regard.core.shapes import split
from regard.factory import mechanism
from replay import CLOSES, KEYS_AND_VALUES, QUERIES, Golden, may_attend
from test_golden import files


def images() -> list[Case]:
    """The cases that have a data format: a sequence has none."""
    return [case for case in pairs_of() if not issubclass(case.cls, SequenceAttention)]


each_case = pytest.mark.parametrize("case", pairs_of(), ids=str)
each_stem = pytest.mark.parametrize("stem", stems())


def goldens() -> list[str]:
    return [name for name, path in files().items() if Golden.read(path).key in stems()]


def replayed(golden: Golden) -> tuple[Pair, dict[str, Any]]:
    """A golden's mechanism and its twin, and its cotangents."""
    with recording(golden.key) as told:
        module = golden.build()
    options, given = told[id(module)], golden.inputs
    if golden.grid is not None and module.axes.input == "b c h w":  # there, an image is its tokens
        given = {name: x.mT.unflatten(2, golden.grid) for name, x in given.items()}
    if not isinstance(module, SequenceAttention):
        return Pair.of(module, options, given.values()), {}

    def turn(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1) if golden.length_first and x.dim() == 3 else x

    inputs = [turn(x) for n, x in given.items() if n in (*QUERIES, *KEYS_AND_VALUES)]
    found = Pair.of(module, options, inputs)
    mask = may_attend({n: x for n, x in given.items() if n in CLOSES}, len(inputs[0]))
    if "attention_weights" in given:  # which multiply the scores there
        mask = weighted(module, *found.inputs, mask, given["attention_weights"])
    found.masks = {} if mask is None else {"attention_mask": mask.detach()}
    return found, found.masks


@pytest.mark.parametrize("name", goldens())
def test_a_twin_gives_the_numbers_of_the_reference(name: str) -> None:
    golden = Golden.read(files()[name])
    found, masks = replayed(golden)
    training = golden.meta["mode"] == "train"
    ours = {"mask": masks.get("attention_mask")}
    want = found.module(*found.inputs, **(ours if found.sequence else {}))
    got = numbers(found.call(training=training))
    assert_same(got, found.wanted(want), name)


def test_there_is_a_golden_for_every_twin() -> None:
    assert {Golden.read(files()[name]).key for name in goldens()} == set(stems())


@each_case
def test_output_map_and_gradients_are_those_of_the_mechanism(case: Case) -> None:
    found = pair(case)
    leaves = [x.clone().requires_grad_() for x in found.inputs]
    z = found.module.prepare(*leaves)
    a = found.module.attention(z, None) if found.sequence else found.module.attention(z)
    y = found.module(*leaves)
    outputs = [y] if isinstance(y, torch.Tensor) else list(y)
    cotangents = [torch.randn_like(t) for t in outputs]
    want = torch.autograd.grad(outputs, leaves, cotangents)

    seen, shown = found.layer.see(*found.arrays)
    assert_same(numbers(seen), found.wanted(y))
    named = split(found.module.axes.map).values()
    maps = [a] if isinstance(a, torch.Tensor) else list(a)
    turned = maps
    if not found.sequence:
        turned = [channels_last(m, axes) for m, axes in zip(maps, named, strict=True)]
    assert_same(numbers(keras.tree.flatten(shown)), turned, "map")
    got = gradient(found.layer, found.arrays, [found.wanted(c) for c in cotangents])
    for one, other in zip(numbers(got), want, strict=True):
        assert_same(one, found.wanted(other), "gradient")


@each_case
def test_training_computes_what_the_mechanism_computes(case: Case) -> None:
    """Where training differs by a norm; what is drawn at random is only drawn."""
    found = pair(case)
    random = any(isinstance(m, torch.nn.Dropout) and m.p for m in found.module.modules())
    want = found.wanted(found.module.train()(*found.inputs))
    got = numbers(found.call(training=True))
    if random:
        assert got.shape == want.shape and not torch.equal(got, numbers(found.call()))
    else:
        assert_same(got, want)


@pytest.mark.parametrize("case", images(), ids=str)
def test_channels_first_gives_the_same(case: Case) -> None:
    found = pair(case)
    first = pair(case, data_format="channels_first")
    twins.transfer(found.module, first.layer)
    assert_same(numbers(first.call()), found.module(*found.inputs))
    shapes = first.layer.compute_output_shape(tuple(first.inputs[0].shape))
    assert shapes == keras.tree.map_structure(lambda y: tuple(y.shape), first.call())


@each_case
def test_weights_go_back_to_torch(case: Case) -> None:
    found = pair(case)
    other = case.module()
    twins.transfer(found.layer, other)
    assert_same(other(*found.inputs), found.module(*found.inputs))


@each_stem
def test_a_twin_takes_what_its_mechanism_takes(stem: str) -> None:
    """The same options, in the same order, with the same defaults."""
    ours, theirs = options(getattr(twins, stems()[stem])), options(mechanism(stem))
    assert list(ours) == list(theirs)
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}


@each_case
def test_a_new_twin_is_the_identity_exactly_when_the_card_says(case: Case) -> None:
    found = pair(case)
    fresh = type(found.layer).from_config(found.layer.get_config())
    y = keras.tree.flatten(fresh(*found.arrays))
    x = numbers(found.arrays[0])
    still = len(y) == 1 and y[0].shape == tuple(x.shape) and torch.equal(numbers(y[0]), x)
    assert still == found.module.identity_at_init


def test_a_layer_must_be_built_before_weights_are_carried_over() -> None:
    case = pairs_of()[0]
    with pytest.raises(ValueError, match="has no weights yet"):
        twins.transfer(case.module(), getattr(twins, stems()[case.key])())


def test_every_twin_is_a_mechanism() -> None:
    folder = Path(twins.__file__).parent
    tools = {"__init__", "attention", "maps", "parts", "transfer"}
    assert {path.stem for path in folder.glob("*.py")} - tools <= set(entries())


def test_numpy_arrays_are_inputs_too() -> None:
    found = pair(pairs_of()[0])
    assert_same(numbers(found.layer(np.asarray(found.arrays[0]))), numbers(found.call()))
