"""The mathematics that every mechanism obeys: the form, the map, symmetries, start, gradients."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from contextlib import nullcontext
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import (
    Case,
    any_grid,
    bound,
    by_parts,
    cases,
    draw,
    has_form,
    law,
    map_of,
    of_levels,
    open_axes,
    shapes,
    watched,
)
from closeness import assert_same, flat, same
from regard.core.attention import Mechanism, SequenceAttention, Tap
from regard.core.contracts import LevelsAttention, PoolAttention
from regard.core.shapes import bind, expand, split
from regard.measurement.meter import run
from symmetry import equivariances, independences, invariances

# A gradient below this part of the largest is zero by mathematics, and noise by rounding.
ZERO = 1e-12
# Where the frames are folded into the batch, it is called s.
BATCH_OF_NONE = {"b": 0, "s": 0}


def gradients(
    module: Mechanism, inputs: tuple[Tensor, ...], forward: Callable[..., Any]
) -> tuple[Any, dict[str, Tensor]]:
    """The output, and the gradient of a random sum of it by each input and parameter."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    y = forward(*leaves)
    random = torch.Generator().manual_seed(2)
    total = sum((t * torch.randn(t.shape, generator=random, dtype=t.dtype)).sum() for t in flat(y))
    parameters = dict(module.named_parameters())
    named = {f"input {i}": x for i, x in enumerate(leaves)}
    named |= {name: p for name, p in parameters.items() if p.requires_grad}
    found = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
    frozen = {name: torch.zeros_like(p) for name, p in parameters.items() if not p.requires_grad}
    return y, dict(zip(named, found, strict=True)) | frozen


def assert_same_run(
    got: tuple[Any, dict[str, Tensor]], want: tuple[Any, dict[str, Tensor]]
) -> None:
    assert_same(got[0], want[0])
    largest = max(g.abs().max() for g in want[1].values())
    for name, gradient in want[1].items():
        if gradient.abs().max() > ZERO * largest:
            assert_same(got[1][name], gradient, f"gradient of {name}")
        else:
            assert got[1][name].abs().max() <= ZERO * largest, f"gradient of {name} is not zero"


@law(has_form)
def test_form(case: Case) -> None:
    """y = f(g(z), z) with z = e(x), whichever path ran: outputs and gradients."""
    module = case.module()
    inputs = draw(module)
    want = gradients(module, inputs, lambda *x: by_parts(module, x)[1])
    assert_same_run(gradients(module, inputs, module), want)
    with watched(module):
        assert_same_run(gradients(module, inputs, module), want)


@law(any_grid)
def test_any_number_of_space_and_time_axes(case: Case) -> None:
    module = case.module()
    for dims in (1, 2, 3):
        inputs = draw(module, dims=dims)
        assert_same(module(*inputs), by_parts(module, inputs)[1])
        assert_axes(map_of(module, inputs), module.axes.map, bound(module, inputs), "map")


def assert_axes(result: Any, pattern: str, sizes: dict[str, int], what: str) -> None:
    named = split(pattern)
    tensors = flat(result)
    assert len(tensors) == len(named), f"{what}: {len(tensors)} tensors for ({pattern})"
    for axes, tensor in zip(named.values(), tensors, strict=True):
        bind(axes, tensor.shape, **sizes)


@law(has_form)
def test_map_has_the_stated_axes(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    assert_axes(map_of(module, inputs), module.axes.map, bound(module, inputs), "map")


@law()
def test_output_has_the_stated_axes(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    pattern = module.axes.output
    if isinstance(module, LevelsAttention):
        pattern = ", ".join(of_levels(module, [pattern]))
    assert_axes(module(*inputs), pattern, bound(module, inputs), "output")


@law(lambda case: case.axes.parts, least=1)
def test_parts_give_maps_of_the_stated_axes(case: Case) -> None:
    """A composite has a tap for each part on its card, and no other."""
    module = case.module()
    inputs = draw(module)
    with watched(module) as seen:
        module(*inputs)
    own = {n for n, child in module.named_children() if isinstance(child, Tap)} - {"tap"}
    assert own == {f"tap_{part}" for part in module.axes.parts}
    for part, axes in module.axes.parts.items():
        assert_axes(seen[f"tap_{part}"], axes, bound(module, inputs), f"tap_{part}")


@law(has_form)
def test_map_stays_in_its_range(case: Case) -> None:
    module = case.module()
    kind, _, axis = module.axes.range.partition(" ")
    assert kind in ("unit", "softmax", "real", "offset"), f"no range {module.axes.range!r}"
    maps = flat(map_of(module, draw(module)))
    for axes, a in zip(split(module.axes.map).values(), maps, strict=True):
        assert a.isfinite().all()
        if kind in ("unit", "softmax"):
            assert a.min() >= 0 and a.max() <= 1, f"from {a.min():.3g} to {a.max():.3g}"
        if kind == "softmax":
            names = expand(axes, a.dim()).split()
            total = a.sum(names.index(axis) if axis else -1)
            assert_same(total, torch.ones_like(total), "sum of the map")


@law()
def test_images_are_independent(case: Case) -> None:
    """A batch gives what its images give one by one."""
    module = case.module()
    inputs = draw(module, b=3)
    singles = [flat(module(*(x[i : i + 1] for x in inputs))) for i in range(3)]
    assert_same(flat(module(*inputs)), [torch.cat(parts) for parts in zip(*singles, strict=True)])


def assert_claimed(claimed: tuple[str, ...], held: set[str], what: str) -> None:
    """Claims hold, and what holds is claimed; pixels that move freely include frames."""
    assert set(claimed) <= held, f"{what}: {sorted(set(claimed) - held)} claimed, does not hold"
    implied = {"frames"} if "pixels" in held else set()
    missing = held - set(claimed) - implied
    assert not missing, f"{what}: {sorted(missing)} holds, not claimed"


@law()
def test_output_follows_the_symmetries_on_the_card(case: Case) -> None:
    module = case.module()
    assert_claimed(case.claimed("equivariant"), equivariances(module), "equivariant")


@law(has_form)
def test_map_is_blind_to_the_symmetries_on_the_card(case: Case) -> None:
    module = case.module()
    assert_claimed(case.claimed("map_invariant"), invariances(module), "map_invariant")


@law()
def test_slices_are_independent_as_the_card_says(case: Case) -> None:
    module = case.module()
    assert_claimed(case.claimed("independent"), independences(module), "independent")


@law()
def test_new_module_is_the_identity_exactly_when_the_card_says(case: Case) -> None:
    module = case.fresh().double()
    inputs = draw(module)
    y = module(*inputs)
    still = isinstance(y, Tensor) and torch.equal(y, inputs[0])  # to the last bit, as insert says
    claimed = (case.claimed("identity_at_init"), module.identity_at_init)
    assert (still, still) == claimed, f"a new module returns its input: {still}"


def has_parameters(case: Case) -> bool:
    return any(True for _ in case.fresh().parameters())


@law(has_parameters)
def test_every_parameter_learns(case: Case) -> None:
    """Each gets a gradient, but those that the claims name, which must get none indeed."""
    module = case.module()
    _, found = gradients(module, draw(module), module)
    largest = max(g.abs().max() for g in found.values())
    still = {n for n, g in found.items() if g.abs().max() <= ZERO * largest}
    claimed = {n for n in found if any(fnmatch(n, glob) for glob in case.zero_grad)}
    assert not still - claimed, f"no gradient reaches {sorted(still - claimed)}"
    assert not claimed - still, f"{sorted(claimed - still)} claimed to learn nothing, but learns"


@law(has_parameters)
def test_every_parameter_that_asks_for_a_gradient_gets_one(case: Case) -> None:
    """One that is left out, even of zeros, stops the training that is shared among processes."""
    module = case.module().train()
    torch.stack([y.sum() for y in flat(module(*draw(module)))]).sum().backward()
    left = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert not left, f"no gradient comes to {left}"


@law(lambda case: case.claims.zero_grad, once=True)
def test_every_glob_of_the_claims_means_a_parameter(case: Case) -> None:
    names = {
        name
        for other in cases()
        if other.cls is case.cls
        for name, _ in other.fresh().named_parameters()
    }
    for glob, reason in case.claims.zero_grad.items():
        assert any(fnmatch(name, glob) for name in names), f"no parameter is called {glob}"
        assert reason, f"{glob}: say why"


@law()
def test_output_may_be_written_to(case: Case) -> None:
    """As by ``nn.ReLU(inplace=True)`` or ``+=`` after it; the gradients stay the same."""
    module = case.module().train()
    inputs = draw(module)
    state = {name: t.clone() for name, t in module.state_dict().items()}

    def followed(change: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
        def forward(*x: Tensor) -> Any:
            torch.manual_seed(3)
            module.load_state_dict(state)  # which training changes
            return [change(y) for y in flat(module(*x))]

        return forward

    for apart, inside in ((torch.relu, torch.relu_), (lambda y: y + 1, lambda y: y.add_(1))):
        want = gradients(module, inputs, followed(apart))
        assert_same_run(gradients(module, inputs, followed(inside)), want)


@law()
def test_input_is_untouched(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    before = [x.clone() for x in inputs]
    module(*inputs)
    with watched(module):
        module(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))


def attributes(module: Mechanism) -> dict[str, Any]:
    return {
        f"{name}.{attribute}": value
        for name, child in module.named_modules()
        for attribute, value in vars(child).items()
        if attribute != "training"
    }


@law()
def test_forward_leaves_nothing_behind(case: Case) -> None:
    """No attribute appears, changes or grows, in either mode; no buffer, in evaluation mode."""
    module = case.module()
    inputs = draw(module)
    state = {name: t.clone() for name, t in module.state_dict().items()}
    for training in (False, True):
        module.train(training)
        before = attributes(module)
        lengths = {n: len(v) for n, v in before.items() if isinstance(v, list | dict | set)}
        module(*inputs)
        after = attributes(module)
        assert after.keys() == before.keys(), f"left behind: {after.keys() - before.keys()}"
        for name, value in before.items():
            assert after[name] is value, f"{name} is another object"
            assert name not in lengths or len(value) == lengths[name], f"{name} has grown"
        if not training:
            for name, t in module.state_dict().items():
                assert torch.equal(t, state[name]), f"{name} has changed"


@law()
def test_same_input_gives_the_same_output(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    assert_same(module(*inputs), module(*inputs))
    with watched(module):
        assert_same(module(*inputs), module(*inputs))


@law()
def test_training_mode_differs_exactly_when_the_card_says(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    still = module(*inputs)
    differs = not same(module.train()(*inputs), still)
    assert differs == case.claimed("train_differs"), f"training differs: {differs}"


def has_open_axes(case: Case) -> bool:
    return bool(open_axes(case.fresh()))


@law(has_open_axes)
def test_small_and_odd_sizes(case: Case) -> None:
    """One image, one row, one column: each is an input like others."""
    module = case.module()
    free = open_axes(module)
    for thin in ({}, *({axis: 1} for axis in sorted(free))):
        inputs = draw(module, b=1, **thin)
        y = module(*inputs)
        assert all(t.isfinite().all() for t in flat(y)), f"not finite at {thin}"
        if has_form(case):
            assert_same(y, by_parts(module, inputs)[1], f"output at {thin}")


@law()
def test_a_batch_of_none_gives_none(case: Case) -> None:
    """As many as a detector may propose; the other axes are those of any batch."""
    module = case.module()
    some, none = flat(module(*draw(module))), flat(module(*draw(module, **BATCH_OF_NONE)))
    assert [y.shape for y in none] == [(0, *y.shape[1:]) for y in some]


@law(has_open_axes)
def test_an_empty_axis_works_or_is_refused_by_name(case: Case) -> None:
    module = case.module()
    for axis in sorted(open_axes(module)):
        inputs = draw(module, **{axis: 0})
        try:
            y = module(*inputs)
        except ValueError as refusal:
            assert re.match(rf"{case.cls.__name__}: .*expected .* axis {axis} ", str(refusal))
        else:
            assert all(t.isfinite().all() for t in flat(y)), f"not finite without {axis}"


@law(has_open_axes)
def test_a_single_position_gives_no_nan(case: Case) -> None:
    module = case.module()
    inputs = draw(module, **dict.fromkeys(open_axes(module), 1))
    y, found = gradients(module, inputs, module)
    assert all(t.isfinite().all() for t in (*flat(y), *found.values()))


@law()
def test_one_value_for_each_channel_works_or_is_refused_with_advice(case: Case) -> None:
    """Where a norm sees one value for each channel, somebody has to say what to change."""
    module = case.module()
    few = [dict.fromkeys(open_axes(module), n) for n in (1, 2)]
    for training in (False, True):
        for sizes in ({}, *few):
            inputs = draw(module, b=1, **sizes)
            try:
                y = module.train(training)(*inputs)
            except ValueError as refusal:
                said = str(refusal)
                assert said.startswith(f"{case.cls.__name__}: "), said
                assert "use a batch of two or more" in said or "a multiple of" in said, said
            else:
                assert all(t.isfinite().all() for t in flat(y)), f"not finite at {sizes}"


def reads_keys(case: Case) -> bool:
    return issubclass(case.cls, SequenceAttention)


def masked(module: Mechanism) -> tuple[tuple[Tensor, ...], Tensor]:
    """Queries, keys and values, and a mask that closes one key, one pair and one whole row."""
    inputs = draw(module)
    query, key, _ = inputs
    mask = torch.ones(query.shape[0], 1, query.shape[1], key.shape[1], dtype=torch.bool)
    mask[:, :, :, 2] = False
    mask[0, :, 1, 3] = False
    mask[:, :, 4] = False
    return inputs, mask


@law(reads_keys)
def test_masked_keys_get_no_weight(case: Case) -> None:
    module = case.module()
    inputs, mask = masked(module)
    a = map_of(module, inputs, mask=mask)[..., : mask.shape[-1]]
    assert not a.masked_select(~mask).any()
    assert a.masked_select(mask).all()


@law(reads_keys)
def test_masks_hold_on_both_paths(case: Case) -> None:
    """Boolean and additive masks agree; a row without keys gives what a map of zeros gives."""
    module = case.module()
    inputs, mask = masked(module)
    bias = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
    want = gradients(module, inputs, lambda *x: by_parts(module, x, mask=mask)[1])
    assert all(g.isfinite().all() for g in want[1].values())
    a = map_of(module, inputs, mask=mask)
    if a.shape[-1] == mask.shape[-1]:  # appended keys stay open to every row
        nothing = module.combine(torch.zeros_like(a), module.prepare(*inputs))
        assert_same(want[0][:, 4], nothing[:, 4], "row without keys")
    for given in (mask, bias):
        assert_same_run(gradients(module, inputs, lambda *x, g=given: module(*x, mask=g)), want)
        with watched(module):
            assert_same_run(gradients(module, inputs, lambda *x, g=given: module(*x, mask=g)), want)


@law(lambda case: issubclass(case.cls, PoolAttention), least=1)
def test_masked_instances_change_nothing(case: Case) -> None:
    """A masked bag gives what the rest of it gives, an empty one zeros; on both paths."""
    module = case.module()
    (x,) = draw(module)
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[0, 3:] = False
    mask[1] = False
    alone = flat(module(x[:1, :3]))
    for watch in (False, True):
        with watched(module) if watch else nullcontext():
            y, found = gradients(module, (x,), lambda x: module(x, mask))
        assert_same([t[:1] for t in flat(y)], alone)
        assert not flat(y)[0][1].any()
        assert all(g.isfinite().all() for g in found.values())
        assert not found["input 0"][~mask].any()
    a = map_of(module, (x,), mask=mask)
    assert not a.masked_select(~mask).any()
    for bad, error in ((mask[:, 1:], ValueError), (mask.long(), TypeError), ("all", TypeError)):
        with pytest.raises(error, match=rf"^{case.cls.__name__}: mask: expected "):
            module(x, bad)


def power(growth: str, open_axes: Collection[str]) -> float:
    """The highest power of n in a sum of products; an open side of the grid is half a power.

    >>> power("n^2 c + n c^2", "hw"), power("n h c + c^2", "hw"), power("n h c", "w")
    (2.0, 1.5, 1.0)
    """
    half = dict.fromkeys(open_axes, 0.5) | {"n": 1.0}
    terms = ([factor.partition("^") for factor in term.split()] for term in growth.split("+"))
    return max(
        sum(half.get(name, 0) * int(exponent or 1) for name, _, exponent in term) for term in terms
    )


def grown(values: list[int], positions: list[int]) -> float:
    """The power of the number of positions that values follow; constants do not count."""
    first, second, third = values
    if third == second:
        return 0.0
    return math.log((third - second) / (second - first)) / math.log(positions[2] / positions[1])


def measured(case: Case, device: str, sides: tuple[int, ...]) -> dict[str, float]:
    """The powers of n that counted work and peak memory follow, of the usual path."""
    module = case.module(torch.float32).to(device)
    work, memory, positions = [], [], []
    for side in sides:
        sizes = dict.fromkeys("hw", side) | dict.fromkeys("lnm", side**2)
        given = shapes(module, **(sizes | {"b": 1}))
        inputs = tuple(torch.ones(shape, device=device) for shape in given)
        total = run(module, inputs).tallies[""]
        work.append(total.macs + total.elementwise)
        memory.append(total.memory)
        positions.append(bound(module, inputs)["n"])
    return {"time": grown(work, positions), "memory": grown(memory, positions)}


@law(has_open_axes, once=True)
def test_cost_grows_with_the_positions_as_the_card_says(case: Case) -> None:
    """Work over large sizes, on tensors without numbers; memory over small ones."""
    cost, sides = case.cls.card.cost, open_axes(case.fresh()) & set("hw")
    stated = power(cost["time"], sides)
    # The terms in n c^2 stay above those in n h c for longer than below those in n^2 c.
    large = (96, 192, 384) if stated in (0, 1, 2) else (1024, 2048, 4096)
    assert measured(case, "meta", large)["time"] == pytest.approx(stated, abs=0.15)
    memory = measured(case, "cpu", (12, 24, 48))["memory"]
    assert memory == pytest.approx(power(cost["memory"], sides), abs=0.15)
