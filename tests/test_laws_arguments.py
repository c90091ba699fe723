"""What every mechanism says and refuses: its arguments, its messages, its docstring."""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch

from cases import Case, draw, law, patterns, randomize
from claims import Claims, Variant
from closeness import flat, same
from regard.core.attention import Mechanism, SequenceAttention
from regard.core.contracts import PoolAttention
from regard.core.shapes import split

FACTORY = ("device", "dtype")
UNIONS = (typing.Union, types.UnionType)


def parameters(cls: type[Mechanism]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(cls).parameters)


def options(cls: type[Mechanism]) -> list[str]:
    """All that may be chosen: every argument but the sizes that must be given, device and dtype."""
    given = parameters(cls)
    return [n for n, p in given.items() if p.default is not p.empty and n not in FACTORY]


def hints(cls: type[Mechanism]) -> dict[str, Any]:
    return typing.get_type_hints(cls.__init__)


def variants(case: Case) -> list[Case]:
    """The example and the variants of the same mechanism."""
    return [Case(case.cls, case.claims, v) for v in (Variant(), *case.claims.variants)]


@law(once=True)
def test_no_hidden_arguments(case: Case) -> None:
    for name, p in parameters(case.cls).items():
        assert p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL), f"{name} swallows what it gets"


@law(once=True)
def test_device_and_dtype_come_last(case: Case) -> None:
    given = parameters(case.cls)
    if any(True for _ in case.fresh().parameters()):
        assert tuple(given)[-2:] == FACTORY
    assert all(given[name].default is None for name in FACTORY if name in given)


def bites(case: Case, name: str) -> bool:
    """Whether an option changes the parameters, the output, what training leaves, or refusals."""
    default = parameters(case.cls)[name].default
    usual = Case(case.cls, Claims({**case.options, name: default}))
    torch.manual_seed(0)
    module = case.fresh()
    torch.manual_seed(0)
    try:
        other = usual.fresh()
    except ValueError:  # the default does not go with the other arguments: it is read
        return True
    ours, theirs = module.state_dict(), other.state_dict()
    if {n: t.shape for n, t in ours.items()} != {n: t.shape for n, t in theirs.items()}:
        return True
    if not all(torch.equal(t, theirs[n]) for n, t in ours.items()):
        return True
    other.double().load_state_dict(randomize(module.double()).state_dict())
    inputs = draw(module)
    if patterns(module) != patterns(other) or module.fixed_axes != other.fixed_axes:
        return True
    closed: dict[str, Any] = {}
    if isinstance(module, SequenceAttention):
        query, key, _ = inputs
        closed["mask"] = torch.ones(query.shape[1], key.shape[1], dtype=torch.bool)
        closed["mask"][:, 0] = False
    elif isinstance(module, PoolAttention):
        closed["mask"] = torch.ones(inputs[0].shape[:2], dtype=torch.bool)
        closed["mask"][:, 0] = False
    for training in (False, True):
        for masks in {}, closed:
            torch.manual_seed(0)
            y = module.train(training)(*inputs, **masks)
            torch.manual_seed(0)
            if not same(y, other.train(training)(*inputs, **masks)):
                return True
    return not same(list(module.buffers()), list(other.buffers()))


@law(lambda case: options(case.cls), once=True)
def test_every_option_bites(case: Case) -> None:
    """Example and variants bring every option into play, and its value changes something."""
    for name in options(case.cls):
        default = parameters(case.cls)[name].default
        chosen = [v for v in variants(case) if v.options.get(name, default) != default]
        assert chosen, f"{name} has its default, {default!r}, in the example and in all variants"
        assert any(bites(v, name) for v in chosen), f"{name} changes nothing"


def whole_numbers(case: Case) -> Iterator[tuple[str, Any]]:
    """Each argument of whole numbers, alone or in a sequence, with values that make no sense."""
    for name, hint in hints(case.cls).items():
        if int in (typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)):
            yield from ((name, bad) for bad in (0, -1))
        default = getattr(parameters(case.cls).get(name), "default", None)
        for given in (default, *(v.options.get(name) for v in variants(case))):
            if isinstance(given, (tuple, list)) and all(type(item) is int for item in given):
                yield from ((name, (bad, *given[1:])) for bad in (0, -1))
                break


@law(lambda case: list(whole_numbers(case)), once=True)
def test_nonsense_sizes_are_refused_by_name(case: Case) -> None:
    for name, bad in whole_numbers(case):
        with pytest.raises(ValueError, match=rf"\b{name}\b") as refusal:
            case.cls(**{**case.options, name: bad})
        shown = bad[0] if isinstance(bad, tuple) else bad
        assert str(shown) in str(refusal.value), f"{name} = {bad}: {refusal.value}"


def choices(case: Case) -> dict[str, tuple[Any, ...]]:
    """What each argument of listed values may be."""
    found = {}
    for name, hint in hints(case.cls).items():
        for kind in (hint, *typing.get_args(hint)):
            if typing.get_origin(kind) is Literal:
                found[name] = typing.get_args(kind)
    return found


@law(choices, once=True)
def test_unknown_choices_are_refused_and_the_known_listed(case: Case) -> None:
    for name, known in choices(case).items():
        with pytest.raises(ValueError, match=rf"\b{name}\b.*'nonsense'") as refusal:
            case.cls(**{**case.options, name: "nonsense"})
        assert all(repr(choice) in str(refusal.value) for choice in known)


@law(choices, once=True)
def test_every_choice_comes_into_play(case: Case) -> None:
    for name, known in choices(case).items():
        default = parameters(case.cls)[name].default
        used = {v.options.get(name, default) for v in variants(case)}
        assert not set(known) - used, f"{name}: no variant has {sorted(set(known) - used, key=str)}"


@law()
def test_wrong_rank_is_refused_with_both_shapes(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    named = split(module.axes.input)
    for i, (name, pattern) in enumerate(named.items()):
        x = inputs[i]
        who = case.cls.__name__ + (f": {name}" if len(named) > 1 else "")
        few, many = x.flatten(), x.reshape(*x.shape, *[1] * (6 - x.dim()))
        for bad in (few,) if "..." in pattern else (few, many):
            given = (*inputs[:i], bad, *inputs[i + 1 :])
            said = rf"^{who}: expected .* axes \({re.escape(pattern)}\), got {bad.dim()}: "
            with pytest.raises(ValueError, match=said + re.escape(str(tuple(bad.shape)))):
                module(*given)


@law(lambda case: "dims" in parameters(case.cls), once=True)
def test_another_rank_is_refused_by_the_option_that_takes_it(case: Case) -> None:
    for dims, others in ((2, (1, 3)), (3, (1, 2))):
        module = case.cls(**{**case.options, "dims": dims}).double()
        for other in others:
            taking = case.cls(**{**case.options, "dims": other}).double()
            inputs = draw(taking)
            taking(*inputs)
            with pytest.raises(ValueError, match=rf"^{case.cls.__name__}: .*; dims={other} takes"):
                module(*inputs)


@law(lambda case: case.fresh().fixed_axes)
def test_wrong_sizes_are_refused_with_wanted_and_got(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    refused = set()
    for i, pattern in enumerate(patterns(module)):
        for j, axis in enumerate(pattern.split()):
            if axis in module.fixed_axes:
                bad = torch.cat([inputs[i], inputs[i].narrow(j, 0, 1)], j)
                want, got = module.fixed_axes[axis], module.fixed_axes[axis] + 1
                said = rf"^{case.cls.__name__}: .*expected axis {axis} = {want} .*, got {got}: "
                with pytest.raises(ValueError, match=said):
                    module(*inputs[:i], bad, *inputs[i + 1 :])
                refused.add(axis)
    assert refused, "the instance fixes sizes, but no axis of its input has them"


@law(lambda case: case.fresh().max_sizes, least=1)
def test_sizes_above_the_largest_are_refused(case: Case) -> None:
    module = case.module()
    ((axis, largest),) = module.max_sizes.items()
    (x,) = draw(module)
    place = patterns(module)[0].split().index(axis)
    longer = torch.cat([x] * 2, place).narrow(place, 0, largest + 1)
    with pytest.raises(ValueError, match=rf"expected at most {largest} on axis {axis}"):
        module(longer)
    shorter = x.narrow(place, 0, largest // 2)
    assert module(shorter).shape == shorter.shape


@law(lambda case: case.fresh().divisors)
def test_sizes_that_do_not_divide_are_refused(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    for i, pattern in enumerate(patterns(module)):
        for j, axis in enumerate(pattern.split()):
            if (part := module.divisors.get(axis, 1)) > 1:
                bad = torch.cat([inputs[i], inputs[i].narrow(j, 0, 1)], j)
                said = rf"^{case.cls.__name__}: .*a multiple of {part} on axis {axis} .*, got "
                with pytest.raises(ValueError, match=said + str(bad.shape[j])):
                    module(*inputs[:i], bad, *inputs[i + 1 :])


@law()
def test_whole_numbers_as_input_are_refused(case: Case) -> None:
    module = case.module()
    inputs = [x.long() for x in draw(module)]
    with pytest.raises(TypeError, match=rf"^{case.cls.__name__}: .*floating-point.*int64"):
        module(*inputs)


@law()
def test_what_is_not_a_tensor_is_refused(case: Case) -> None:
    module = case.module()
    _, *others = draw(module)
    with pytest.raises(TypeError, match=rf"^{case.cls.__name__}: .*expected a tensor.*got str"):
        module("picture", *others)


@law(once=True)
def test_docstring_is_complete(case: Case) -> None:
    """One sentence, the equation and its place, every argument, shapes, errors, an example."""
    doc = inspect.getdoc(case.cls) or ""
    sentence, _, rest = doc.partition("\n")
    assert sentence.endswith("."), "the first line is one sentence"
    assert rest.startswith("\n"), "a blank line follows the first"
    assert re.search(r"\.\. math::\n\s+\S", doc), "no equation"
    assert re.search(r"\b(equations?|section|figure|algorithm)\s+\S", doc, re.I), (
        "where in the paper does the equation stand?"
    )
    args = doc.partition("\nArgs:\n")[2].partition("\n\n")[0]
    told = re.findall(r"^    (\w+): \S", args, re.M)
    assert told == list(parameters(case.cls)), "Args lists what __init__ takes, in its order"
    for section in ("Shape", "Raises"):
        assert re.search(rf"\n{section}:\n    \S", doc), f"no {section}"
    assert ">>> " in doc, "no example"


@law()
def test_a_module_shows_the_arguments_that_it_was_given(case: Case) -> None:
    module = case.fresh()
    shown = ast.parse(f"f({module.extra_repr()})", mode="eval").body
    assert isinstance(shown, ast.Call) and not shown.args
    assert {k.arg: ast.literal_eval(k.value) for k in shown.keywords} == case.options
    assert repr(module).startswith(f"{case.cls.__name__}(")


@law(once=True)
def test_a_new_module_returns_finite_numbers(case: Case) -> None:
    assert all(
        t.isfinite().all() for t in flat(case.fresh()(*draw(case.fresh(), dtype=torch.float32)))
    )
