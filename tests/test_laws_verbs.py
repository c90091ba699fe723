"""What the verbs of the package promise of every mechanism: explain, measure, insert, replace."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from cases import Case, draw, law, shapes, watched
from closeness import flat
from regard.core.attention import Mechanism, Tap
from regard.core.check import per_axis
from regard.surgery.layout import is_flat

CONV = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
GEOMETRY = (("kernel_size", 3), ("dilation", 1))
INFERRED = ("kernel_size", "stride", "padding", "dilation", "groups", "bias")


def taps(module: nn.Module) -> set[str]:
    return {name for name, child in module.named_modules() if isinstance(child, Tap)}


def has_taps(case: Case) -> bool:
    return bool(taps(case.fresh()))


@law(has_taps)
def test_every_tap_below_fires(case: Case) -> None:
    module = case.module()
    with watched(module) as seen:
        module(*draw(module))
    assert set(seen) == taps(module)


@law(has_taps)
def test_explain_gives_every_map(case: Case) -> None:
    """Each tensor that passes a tap is a map with as many axes as names."""
    module = case.module()
    inputs = draw(module)
    with watched(module) as seen:
        module(*inputs)
    found = regard.explain(module, *inputs)
    values = [one.tensor.flatten() for one in found.values()]
    for a in flat(list(seen.values())):
        same = (value for value in values if value.shape == a.flatten().shape)
        assert any(torch.allclose(a.flatten(), value) for value in same)
    for one in found.values():
        assert len(one.names) == one.tensor.dim(), f"{one.key}: {one.axes} of {one.tensor.shape}"
    assert found.table() and found._repr_html_()


@law()
def test_measure_counts_all_of_it(case: Case) -> None:
    module = case.module(torch.float32)
    found = regard.measure(module, *draw(module, dtype=torch.float32), latency=False)
    assert found.params == sum(p.numel() for p in module.parameters())
    assert found.macs + found.elementwise > 0
    assert not found.uncounted


def insertable(case: Case) -> bool:
    card = case.cls.card
    return card.plug and card.kind in ("gate", "relation", "sequence")


def replaces(case: Case) -> bool:
    card = case.cls.card
    return card.plug and card.kind == "convolution" and len(case.axes.input.split()) == 4


def given(case: Case) -> dict[str, Any]:
    """The options of a case, without what the place decides."""
    sizes = ("channels", "in_channels", "out_channels", "embed_dim")
    return {name: value for name, value in case.options.items() if name not in sizes}


def returned(module: Mechanism, x: Tensor) -> Any:
    """What a mechanism makes of one input; None where it wants several that differ."""
    try:
        return module(x)
    except ValueError:
        return None


@law(insertable)
def test_insert_takes_it_or_refuses_and_remove_gives_the_model_back(case: Case) -> None:
    """It is taken exactly where it returns one tensor as large as its input."""
    module = case.fresh()
    shape = shapes(module, dims=1 if "..." in module.axes.input else 2)[0]
    tokens = is_flat(module.axes.input)
    layer = nn.Linear(3, shape[2]) if tokens else CONV[len(shape)](3, shape[1], 1)
    net = nn.Sequential(layer).eval()
    x = torch.randn(*shape[:2], 3) if tokens else torch.randn(shape[0], 3, *shape[2:])
    y = returned(module, net(x))
    options = given(case) | {n: v for n, v in case.options.items() if n == "out_channels"}
    if not isinstance(y, Tensor) or y.shape != shape:
        with pytest.raises(ValueError, match="cannot be inserted at '0'"):
            regard.insert(net, case.cls, at="0", example_input=x, **options)
        return
    new = regard.insert(net, case.cls, at="0", example_input=x, **options)
    assert torch.equal(new(x), net(x)), "it changes the output before it is trained"
    assert_given_back(new, net, x)


def assert_given_back(new: nn.Module, net: nn.Module, x: Tensor) -> None:
    assert [what.path for what in regard.insertions(new)] == ["0"]
    back = regard.remove(new)
    assert back.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(back(x), net(x))


def convolution(case: Case, x: Tensor, y: Tensor, **options: Any) -> nn.Conv2d:
    """A convolution that the case can be put in place of."""
    kernel, dilation = (
        per_axis(2, 1, size=case.options.get(name, usual)) for name, usual in GEOMETRY
    )
    padding: Any = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    stride = case.options.get("stride", 1)
    if case.options.get("padding", "same") != "same":  # torch has no "same" with strides
        padding = case.options["padding"]
    elif any(k % 2 == 0 for k in kernel):
        padding = "same"
    return nn.Conv2d(x.shape[1], y.shape[1], kernel, stride, padding, dilation, **options)


@law(replaces)
def test_replace_takes_it_and_remove_gives_the_model_back(case: Case) -> None:
    module = case.fresh()
    x = torch.randn(shapes(module)[0])
    net = nn.Sequential(convolution(case, x, module(x))).eval()
    with warnings.catch_warnings():  # torch pads an even kernel in a slow way
        warnings.simplefilter("ignore", UserWarning)
        new = regard.replace(net, case.cls, at="0", example_input=x, **given(case))
        assert new(x).shape == net(x).shape
        assert_given_back(new, net, x)


@law(replaces)
def test_replace_starts_as_the_convolution_exactly_when_claimed(case: Case) -> None:
    """From its weights, whatever the options are that do not change its geometry."""
    module = case.fresh().double()
    x = torch.randn(shapes(module)[0], dtype=torch.float64)
    own = {name: case.options[name] for name in ("groups", "bias") if name in case.options}
    net = nn.Sequential(convolution(case, x, module(x), **own)).double().eval()
    others = {name: value for name, value in given(case).items() if name not in INFERRED}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        new = regard.replace(net, case.cls, at="0", example_input=x, **others)
        starts = torch.allclose(new(x), net(x), rtol=1e-9, atol=1e-12)
    assert starts == case.starts_as_convolution, f"it starts as the convolution: {starts}"
