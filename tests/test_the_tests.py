"""The suite can fail: faults are planted, and the law that is there for each turns red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

import test_golden
import test_laws
import test_laws_arguments
import test_laws_gpu
import test_laws_precision
import test_laws_torch
import test_laws_verbs
from cases import LAWS, Case, cases
from claims import Claims
from closeness import assert_same
from planted import CLAIMS, Gate, Relation
from regard.core.attention import Mechanism
from regard.mechanisms.cbam import CBAM
from regard.mechanisms.squeeze_excitation import SqueezeExcitation

RED = (Exception, pytest.fail.Exception)
SOURCES = (
    test_laws,
    test_laws_arguments,
    test_laws_gpu,
    test_laws_precision,
    test_laws_torch,
    test_laws_verbs,
)


def case_of(cls: type[Mechanism]) -> Case:
    """A case of a planted class: claims are inherited, and may be wrong ones of its own."""
    healthy = next(base for base in cls.__mro__ if base in CLAIMS)
    return Case(cls, WRONG.get(cls) or CLAIMS[healthy])


def test_all_laws_are_known() -> None:
    tests = {n for module in SOURCES for n in vars(module) if n.startswith("test_")}
    assert tests == {f"test_{name}" for name in LAWS}


@pytest.mark.parametrize("name", LAWS)
def test_law_is_exercised_by_enough_mechanisms(name: str) -> None:
    exercised = {case.cls for case in LAWS[name].cases()}
    assert len(exercised) >= LAWS[name].least, f"only {exercised or 'none'}"


def test_every_skip_is_needed() -> None:
    """A law that is skipped for a mechanism would fail for one of its instances."""
    for key, name in {(case.key, name) for case in cases() for name in case.skips}:
        exempt = [case for case in cases() if case.key == key and name in case.skips]
        with pytest.raises(RED):
            for case in exempt:
                torch.manual_seed(0)  # as every test starts
                LAWS[name].test(case)


@pytest.mark.slow
def test_every_wider_bound_for_half_precision_is_needed() -> None:
    """Some case of the class is off by more than one percent, at one of the two sizes."""
    for cls in {case.cls for case in cases() if case.claims.rounding.reason}:
        tried = [case for case in cases() if case.cls is cls]
        assert any(_is_off(case) for case in tried), f"{cls.__name__} is within one percent"


def _is_off(case: Case) -> bool:
    sizes = [test_laws_precision.SMALL, *([] if case.changed else [test_laws_precision.LARGE])]
    return any(
        found > 0.01
        for size in sizes
        for dtype in test_laws_precision.HALF.values()
        for spread in reversed(test_laws_precision.SPREADS)
        for found in test_laws_precision.errors(case, dtype, spread, size).values()
    )


# Laws that speak of every mechanism, and those that the two healthy ones meet besides.
SPOKEN = sorted(
    name
    for name, law in LAWS.items()
    if not any(word in name for word in ("inductor", "onnx", "gpu"))
    and not any(
        word in name
        for word in ("glob", "parts", "mask", "any_number", "replace_", "largest", "another_rank")
    )
)


@pytest.mark.parametrize("name", SPOKEN)
@pytest.mark.parametrize("healthy", [Gate, Relation])
def test_healthy_mechanism_passes(healthy: type[Mechanism], name: str) -> None:
    if name == "unknown_choices_are_refused_and_the_known_listed" and healthy is Relation:
        assert not test_laws_arguments.choices(case_of(healthy))
    elif "softmax" in name and healthy is Gate:
        assert not Gate.axes.range.startswith("softmax")
    else:
        LAWS[name].test(case_of(healthy))


class SoftmaxOverQueries(Relation):
    def attention(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT
        return (self.query(rows) @ rows.mT * self.scale).softmax(-2)


class FusedForgetsTheScale(Relation):
    def fused(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT.unsqueeze(1)
        y = scaled_dot_product_attention(self.query(rows), rows, rows, scale=1.0)
        return self.add(y.squeeze(1), x)


class FusedAddsTheInputTwice(Relation):
    def fused(self, x: Tensor) -> Tensor:
        return super().fused(x) + x


class FusedCutsTheGradient(Relation):
    def fused(self, x: Tensor) -> Tensor:
        return super().fused(x).detach() + x - x.detach()


class ForgetsToStartAtZero(Relation):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.xavier_uniform_(self.out)


class ForgetsToReset(Relation):
    def reset_parameters(self) -> None:
        if not self.out.is_meta and not self.out.isnan().any():
            super().reset_parameters()


class ResetsInAnotherScale(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        nn.init.normal_(self.weigh.weight, std=1.5 * channels**-0.5 / 3**0.5)


class SoftmaxInHalfPrecision(Relation):
    def attention(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).mT
        return (self.query(rows) @ rows.mT * self.scale).softmax(-1)


class BuildsTheMapAnyway(Relation):
    def fused(self, x: Tensor) -> Tensor:
        return self.combine(self.attention(x), x)


class ClaimsChannels(Gate):
    card = replace(Gate.card, equivariant=("pixels", "channels"))


class ClaimsNothing(Gate):
    card = replace(Gate.card, equivariant=())


class ClaimsABlindMap(Relation):
    card = replace(Relation.card, map_invariant=("pixels",))


class ClaimsIndependence(Gate):
    card = replace(Gate.card, independent=("channels",))


class ClaimsThatAParameterDoesNotLearn(Gate):
    pass


class WritesIntoItsInput(Gate):
    def attention(self, x: Tensor) -> Tensor:
        return super().attention(x.relu_())


class RemembersItsInput(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        self.seen = x
        return a * x


class CountsItsCalls(Gate):
    calls = 0

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.calls = 0

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        self.calls += 1
        return a * x


class KeepsAList(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.seen: list[Tensor] = []

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        self.seen.append(a)
        return a * x


class PoolsOverTheBatch(Gate):
    def attention(self, x: Tensor) -> Tensor:
        return super().attention(x).mean(0, keepdim=True).expand(len(x), -1, -1, -1)


class PoolsOneAxisOnly(Gate):
    def attention(self, x: Tensor) -> Tensor:
        return self.weigh(x.mean(2).mT).mT.unsqueeze(2).sigmoid()


class ForgetsTheSigmoid(Gate):
    axes = replace(Gate.axes, range="unit")


class HasALayerThatNobodyCalls(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.spare = nn.Linear(channels, channels, device=options.get("device"))


class EndsInAReLU(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return (a * x).relu()


class GuessesASize(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return (a.reshape(len(x), -1, 1) * x.flatten(2)).unflatten(2, x.shape[2:])


class AllowsNoPositions(Gate):
    may_be_empty = ("h", "w")

    def attention(self, x: Tensor) -> Tensor:
        return super().attention(x.reshape(*x.shape[:2], -1, x.shape[3]))


class RefusesWithoutAdvice(Gate):
    def attention(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError(f"Gate: no variance of {tuple(x.shape)}")
        return super().attention(x)


class ReadsTheTrainingFlag(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return a * x if self.training else a * x + 1


class SwallowsArguments(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels)


class IgnoresAnOption(Gate):
    def attention(self, x: Tensor) -> Tensor:
        return self.weigh(x.mean((2, 3)))[..., None, None].sigmoid()


class AcceptsNothing(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(max(channels, 1), **options)

    __init__.__annotations__["channels"] = "int"


class SaysNothing(Gate):
    """A gate"""


class AsksForNumbers(Gate):
    def attention(self, x: Tensor) -> Tensor:
        return super().attention(x) * (1.0 if x.sum().item() > 0 else 0.5)


class FixesTheSize(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return a * x if x.shape[2] == 11 else x


class SquaresInHalfPrecision(Gate):
    def attention(self, x: Tensor) -> Tensor:
        squares = x.square()
        return super().attention(x) * squares.mean((2, 3), True) / squares.amax((2, 3), True)


class ForgetsTheType(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.register_buffer("one", torch.ones(1))


class HidesAFunction(Gate):
    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.twice = lambda x: 2 * x


class LaysOutAnew(Gate):
    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return (a * x).contiguous()


WRONG: dict[type[Mechanism], Claims] = {
    ClaimsThatAParameterDoesNotLearn: replace(
        CLAIMS[Gate], zero_grad={"weigh.bias": "it only looks so"}
    ),
}

FAULTS: list[tuple[type[Mechanism], Callable[..., None]]] = [
    (SoftmaxOverQueries, test_laws.test_map_stays_in_its_range),
    (FusedForgetsTheScale, test_laws.test_form),
    (FusedAddsTheInputTwice, test_laws.test_form),
    (FusedCutsTheGradient, test_laws.test_form),
    (ForgetsToStartAtZero, test_laws.test_new_module_is_the_identity_exactly_when_the_card_says),
    (ForgetsToReset, test_laws_torch.test_a_module_from_meta_works_after_reset),
    (ResetsInAnotherScale, test_laws_torch.test_reset_draws_what_the_constructor_draws),
    (
        SoftmaxInHalfPrecision,
        test_laws_torch.test_softmax_is_in_single_precision_under_autocast,
    ),
    (BuildsTheMapAnyway, test_laws.test_cost_grows_with_the_positions_as_the_card_says),
    (ClaimsChannels, test_laws.test_output_follows_the_symmetries_on_the_card),
    (ClaimsNothing, test_laws.test_output_follows_the_symmetries_on_the_card),
    (ClaimsABlindMap, test_laws.test_map_is_blind_to_the_symmetries_on_the_card),
    (ClaimsIndependence, test_laws.test_slices_are_independent_as_the_card_says),
    (ClaimsThatAParameterDoesNotLearn, test_laws.test_every_parameter_learns),
    (WritesIntoItsInput, test_laws.test_input_is_untouched),
    (RemembersItsInput, test_laws.test_forward_leaves_nothing_behind),
    (CountsItsCalls, test_laws.test_forward_leaves_nothing_behind),
    (KeepsAList, test_laws.test_forward_leaves_nothing_behind),
    (PoolsOverTheBatch, test_laws.test_images_are_independent),
    (PoolsOneAxisOnly, test_laws.test_map_has_the_stated_axes),
    (HasALayerThatNobodyCalls, test_laws.test_every_parameter_learns),
    (
        HasALayerThatNobodyCalls,
        test_laws.test_every_parameter_that_asks_for_a_gradient_gets_one,
    ),
    (EndsInAReLU, test_laws.test_output_may_be_written_to),
    (GuessesASize, test_laws.test_a_batch_of_none_gives_none),
    (AllowsNoPositions, test_laws.test_an_empty_axis_works_or_is_refused_by_name),
    (
        RefusesWithoutAdvice,
        test_laws.test_one_value_for_each_channel_works_or_is_refused_with_advice,
    ),
    (ReadsTheTrainingFlag, test_laws.test_training_mode_differs_exactly_when_the_card_says),
    (SwallowsArguments, test_laws_arguments.test_no_hidden_arguments),
    (IgnoresAnOption, test_laws_arguments.test_every_option_bites),
    (AcceptsNothing, test_laws_arguments.test_nonsense_sizes_are_refused_by_name),
    (SaysNothing, test_laws_arguments.test_docstring_is_complete),
    (AsksForNumbers, test_laws_torch.test_compiles_whole),
    (FixesTheSize, test_laws_torch.test_exports_for_any_size),
    (ForgetsTheType, test_laws_torch.test_dtype_reaches_every_parameter),
    (
        SquaresInHalfPrecision,
        test_laws_precision.test_half_precision_holds_for_large_values,
    ),
    (HidesAFunction, test_laws_torch.test_copies_and_pickles_give_the_same),
    (LaysOutAnew, test_laws_torch.test_channels_last_is_kept),
]


@pytest.mark.parametrize(("fault", "law"), FAULTS, ids=lambda thing: thing.__name__)
def test_planted_fault_is_caught(fault: type[Mechanism], law: Callable[..., None]) -> None:
    (healthy,) = fault.__bases__
    test = LAWS[law.__name__.removeprefix("test_")].test
    test(case_of(healthy))
    with pytest.raises(RED):
        test(case_of(fault))


def adds_the_input(self: Any, a: Tensor, x: Tensor) -> Tensor:
    return a * x + x


def hard_gate(self: Any, x: Tensor) -> Tensor:
    a = self.excite(self.squeeze(x.mean((2, 3))).relu())
    return nn.functional.hardsigmoid(a)[..., None, None]


def gates_the_raw_input(self: Any, x: Tensor) -> Tensor:
    return self.channel_gate(x) * self.spatial_gate(x)


@pytest.mark.parametrize(
    ("cls", "method", "fault", "name", "watch"),
    [
        (SqueezeExcitation, "combine", adds_the_input, "se.a", False),
        (SqueezeExcitation, "attention", hard_gate, "se.a", True),
        (CBAM, "attention", gates_the_raw_input, "cbam.eval", True),
    ],
    ids=["spurious residual", "wrong activation", "gate on the raw input"],
)
def test_golden_catches_what_no_law_can(
    monkeypatch: pytest.MonkeyPatch, cls: Any, method: str, fault: Any, name: str, watch: bool
) -> None:
    """Mathematics that is consistent, and not the paper's."""
    test_golden.test_numbers_are_those_of_the_reference(name, watch)
    monkeypatch.setattr(cls, method, fault)
    with pytest.raises(AssertionError, match=f"{name}: .*faithful"):
        test_golden.test_numbers_are_those_of_the_reference(name, watch)


@pytest.mark.parametrize(
    "other",
    [
        torch.tensor([1.0, 1.0, 1.0 + 1e-8], dtype=torch.float64),
        torch.tensor([1.0, 1.0, torch.nan]),
        torch.ones(3, 1),
        (torch.ones(3), torch.ones(3)),
    ],
    ids=["a small error", "nan", "another shape", "another number"],
)
def test_comparison_can_fail(other: Any) -> None:
    with pytest.raises(AssertionError):
        assert_same(torch.ones(3), other)
