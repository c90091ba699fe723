"""A twin computes what its mechanism computes: output, map, gradients, in all its variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from twins import (
    Pair,
    channels_last,
    gradient,
    options,
    pair,
    recording,
    stems,
    to_torch,
    twin_cases,
)

import regard.keras as twins
from cases import Case
from closeness import assert_same
from regard.catalog import entries
from regard.compat.modules import weighted
from regard.core.attention import SequenceAttention
from regard.core.shapes import split
from regard.factory import mechanism
from regard.references import matching
from replay import CLOSES, KEYS_AND_VALUES, QUERIES, Golden, may_attend
from test_golden import files


def images() -> list[Case]:
    """Return the cases with a data format: sequences have none."""
    return [case for case in twin_cases() if not issubclass(case.cls, SequenceAttention)]


each_case = pytest.mark.parametrize("case", twin_cases(), ids=str)
each_example = pytest.mark.parametrize(
    "case", [case for case in twin_cases() if not case.changed], ids=str
)
each_stem = pytest.mark.parametrize("stem", stems())


def goldens() -> list[str]:
    """Return the names of the goldens whose mechanism has a twin; blocks around one have none."""
    return [name for name, path in files().items() if has_twin(Golden.read(path))]


def has_twin(golden: Golden) -> bool:
    if golden.key not in stems():
        return False
    found = matching(mechanism(golden.key), golden.meta["reference"])
    return not any(callable(record.builds) for record in found)


def replayed(golden: Golden) -> tuple[Pair, dict[str, Any]]:
    """Return the mechanism of a golden with its twin, and the masks that the golden implies."""
    with recording(golden.key) as arguments:
        module = golden.build()
    options, tensors = arguments[id(module)], golden.inputs
    # The golden has the tokens of an image.
    if golden.grid is not None and module.axes.input == "b c h w":
        tensors = {name: x.mT.unflatten(2, golden.grid) for name, x in tensors.items()}
    if not isinstance(module, SequenceAttention):
        return Pair.of(module, options, tensors.values()), {}

    def batch_first(x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1) if golden.length_first and x.dim() == 3 else x

    inputs = [batch_first(x) for n, x in tensors.items() if n in (*QUERIES, *KEYS_AND_VALUES)]
    found = Pair.of(module, options, inputs)
    mask = may_attend({n: x for n, x in tensors.items() if n in CLOSES}, len(inputs[0]))
    if "attention_weights" in tensors:  # the reference multiplies its scores by these
        q, k, v = found.inputs
        mask = weighted(module, q, k, v, mask, tensors["attention_weights"])
    found.masks = {} if mask is None else {"attention_mask": mask.detach()}
    return found, found.masks


@pytest.mark.parametrize("name", goldens())
def test_a_twin_returns_the_numbers_of_the_reference(name: str) -> None:
    golden = Golden.read(files()[name])
    found, masks = replayed(golden)
    training = golden.meta["mode"] == "train"
    options = {"mask": masks.get("attention_mask")} if found.sequence else {}
    want = found.module(*found.inputs, **options)
    got = to_torch(found.call(training=training))
    assert_same(got, found.expected(want), name)


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

    twin_y, twin_a = found.layer.call_with_map(*found.arrays)
    assert_same(to_torch(twin_y), found.expected(y))
    patterns = split(found.module.axes.map).values()
    maps = [a] if isinstance(a, torch.Tensor) else list(a)
    if not found.sequence:
        maps = [channels_last(m, axes) for m, axes in zip(maps, patterns, strict=True)]
    assert_same(to_torch(keras.tree.flatten(twin_a)), maps, "map")
    got = gradient(found.layer, found.arrays, [found.expected(c) for c in cotangents])
    for twin_gradient, expected in zip(to_torch(got), want, strict=True):
        assert_same(twin_gradient, found.expected(expected), "gradient")


@each_example
def test_a_twin_computes_what_its_mechanism_computes_in_stock_keras(
    case: Case, stock_keras: None
) -> None:
    """In single precision: the tests in double precision patch a private table of Keras."""
    found = pair(case, dtype=None)
    got = to_torch(found.call())
    tensors = [got] if isinstance(got, torch.Tensor) else got
    assert {y.dtype for y in tensors} == {torch.float32}
    # Relative error 1e-4; absolute error 1e-5 of the largest element.
    assert_same(got, found.expected(found.module(*found.inputs)), dtype=torch.float32)


@each_case
def test_training_computes_what_the_mechanism_computes(case: Case) -> None:
    """Test batch statistics; of dropout, only that it changes the output."""
    found = pair(case)
    random = any(isinstance(m, torch.nn.Dropout) and m.p for m in found.module.modules())
    want = found.expected(found.module.train()(*found.inputs))
    got = to_torch(found.call(training=True))
    if random:
        assert got.shape == want.shape and not torch.equal(got, to_torch(found.call()))
    else:
        assert_same(got, want)


@pytest.mark.parametrize("case", images(), ids=str)
def test_channels_first_has_the_same_output(case: Case) -> None:
    found = pair(case)
    first = pair(case, data_format="channels_first")
    twins.transfer(found.module, first.layer)
    assert_same(to_torch(first.call()), found.module(*found.inputs))
    shapes = first.layer.compute_output_shape(tuple(first.inputs[0].shape))
    assert shapes == keras.tree.map_structure(lambda y: tuple(y.shape), first.call())


@each_case
def test_weights_go_back_to_torch(case: Case) -> None:
    found = pair(case)
    other = case.module()
    twins.transfer(found.layer, other)
    assert_same(other(*found.inputs), found.module(*found.inputs))


@each_stem
def test_a_twin_has_the_options_of_its_mechanism(stem: str) -> None:
    """Compare names, order and defaults."""
    ours, theirs = options(getattr(twins, stems()[stem])), options(mechanism(stem))
    assert list(ours) == list(theirs)
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}


@each_case
def test_a_new_twin_is_the_identity_exactly_when_the_card_says(case: Case) -> None:
    found = pair(case)
    fresh = type(found.layer).from_config(found.layer.get_config())
    y = keras.tree.flatten(fresh(*found.arrays))
    x = to_torch(found.arrays[0])
    identity = len(y) == 1 and y[0].shape == tuple(x.shape) and torch.equal(to_torch(y[0]), x)
    assert identity == found.module.identity_at_init


def test_weights_are_copied_only_to_a_built_layer() -> None:
    case = twin_cases()[0]
    with pytest.raises(ValueError, match="has no weights yet"):
        twins.transfer(case.module(), getattr(twins, stems()[case.key])())


def test_every_twin_is_a_mechanism() -> None:
    folder = Path(twins.__file__).parent
    tools = {"__init__", "attention", "maps", "parts", "transfer"}
    assert {path.stem for path in folder.glob("*.py")} - tools <= set(entries())


def test_numpy_arrays_are_inputs_too() -> None:
    found = pair(twin_cases()[0])
    assert_same(to_torch(found.layer(np.asarray(found.arrays[0]))), to_torch(found.call()))
