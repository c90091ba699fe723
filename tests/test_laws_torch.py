"""How every mechanism behaves as a torch module: compiled, exported, copied, moved, cast."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from cases import MASKED, Case, draw, has_form, law, map_of, patterns, randomize, watched
from closeness import assert_same, flat
from regard.core.attention import Mechanism

OTHER_SIZES = {"b": 3, "l": 17, "t": 5, "h": 13, "w": 8, "n": 17, "m": 19}


def compiled(module: nn.Module, **how: Any) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(module, **how)


def replacing(module: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return module.tap.register_forward_hook(lambda tap, args, a: tree_map(change, a))


def with_map(module: Any, inputs: tuple[Tensor, ...], change: Callable[[Tensor], Tensor]) -> Any:
    """What the output is when the map is changed, by hand."""
    return module.combine(tree_map(change, map_of(module, inputs)), module.prepare(*inputs))


@law(has_form)
def test_tap_reads_the_map(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    with watched(module) as seen:
        module(*inputs)
    assert_same(seen["tap"], map_of(module, inputs), "map")


@law(has_form)
def test_tap_replaces_the_map(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    replacing(module, torch.zeros_like)
    assert_same(module(*inputs), with_map(module, inputs, torch.zeros_like))


@law(has_form, costly=True)
def test_tap_works_when_compiled(case: Case) -> None:
    """A hook set before compiling reads the map, and replaces it."""
    module = case.module()
    inputs = draw(module)
    seen: list[Any] = []
    module.tap.register_forward_hook(lambda tap, args, a: seen.append(a))
    replacing(module, torch.zeros_like)
    y = compiled(module, backend="eager", fullgraph=True)(*inputs)
    assert_same(y, with_map(module, inputs, torch.zeros_like))
    assert_same(seen[0], map_of(module, inputs), "map")


@law(costly=True)
def test_compiles_whole(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    assert_same(compiled(module, backend="eager", fullgraph=True)(*inputs), module(*inputs))


@law(slow=True)
def test_compiles_with_inductor(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    assert_same(compiled(module, fullgraph=True)(*inputs), module(*inputs))


def dynamic(module: Mechanism) -> tuple[Any, ...]:
    """Every axis that the instance does not fix, marked as one that may have any size."""
    shapes = tuple(
        {
            i: module.divisors[axis] * Dim(axis) if axis in module.divisors else Dim.DYNAMIC
            for i, axis in enumerate(pattern.split())
            if axis not in module.fixed_axes and not axis.isdigit()
        }
        for pattern in patterns(module)
    )
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if (rest := inspect.Parameter.VAR_POSITIONAL) not in kinds:
        return shapes
    named = kinds.index(rest)
    return (*shapes[:named], shapes[named:])


@law(costly=True)
def test_exports_for_any_size(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    program = torch.export.export(module, inputs, dynamic_shapes=dynamic(module))
    others = draw(module, **OTHER_SIZES)
    assert_same(program.module()(*others), module(*others), "exported, at another size")


@law(slow=True)
def test_onnx_gives_the_same_at_any_size(case: Case) -> None:
    runtime = pytest.importorskip("onnxruntime")
    module = case.module(torch.float32)
    inputs = draw(module, dtype=torch.float32)
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program = torch.onnx.export(
            module, inputs, dynamo=True, dynamic_shapes=dynamic(module), verbose=False
        )
        path = Path(folder) / "module.onnx"
        program.save(path)
        session = runtime.InferenceSession(path)
    others = draw(module, dtype=torch.float32, **OTHER_SIZES)
    names = [given.name for given in session.get_inputs()]
    got = session.run(None, {n: x.numpy() for n, x in zip(names, others, strict=True)})
    assert_same([torch.from_numpy(y) for y in got], flat(module(*others)), dtype=torch.float32)


@law(costly=True)
def test_tracer_gives_the_same_at_any_size(case: Case) -> None:
    """`torch.jit.trace`, as the TorchScript exports of detection libraries call it."""
    module = case.module()
    inputs = draw(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and warns of every check of a size
        traced = torch.jit.trace(module, inputs)
    others = draw(module, **OTHER_SIZES)
    assert_same(traced(*inputs), module(*inputs), "traced")
    assert_same(traced(*others), module(*others), "traced, at another size")


@law(lambda case: case.cls.card.plug, costly=True)
def test_older_onnx_exporter_gives_the_same(case: Case) -> None:
    """The exporter that goes by the tracer, as detection libraries still call it: one size."""
    runtime = pytest.importorskip("onnxruntime")
    module = case.module(torch.float32)
    inputs = draw(module, dtype=torch.float32)
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        torch.onnx.export(module, inputs, file, dynamo=False)
    session = runtime.InferenceSession(file.getvalue())
    names = [given.name for given in session.get_inputs()]
    got = session.run(None, {n: x.numpy() for n, x in zip(names, inputs, strict=True)})
    assert_same([torch.from_numpy(y) for y in got], flat(module(*inputs)), dtype=torch.float32)


@law()
def test_fx_traces(case: Case) -> None:
    module = case.module()
    absent = {"mask": None} if isinstance(module, MASKED) else None
    traced = torch.fx.symbolic_trace(module, concrete_args=absent)
    others = draw(module, **OTHER_SIZES)
    assert_same(traced(*others), module(*others), "traced, at another size")


@law(lambda case: case.fresh().state_dict())
def test_a_module_from_meta_works_after_reset(case: Case) -> None:
    """Built without storage, then given some: new parameters of the same kind, nothing missing."""
    module = case.fresh(device="meta")
    assert all(t.is_meta for t in (*module.parameters(), *module.buffers()))
    module.to_empty(device="cpu")
    with torch.no_grad():
        for t in (*module.parameters(), *module.buffers()):
            t.fill_(torch.nan if t.is_floating_point() else -1)
    module.reset_parameters()
    usual = case.fresh()
    assert all(t.isfinite().all() for t in module.state_dict().values()), "it is not reset"
    inputs = draw(module, dtype=torch.float32)
    module.load_state_dict(usual.state_dict())
    assert_same(module(*inputs), usual(*inputs), dtype=torch.float32)


@law(lambda case: case.fresh().state_dict())
def test_reset_draws_what_the_constructor_draws(case: Case) -> None:
    """The same constants, and random numbers of the same mean and spread."""
    module = case.fresh()
    built, reset = [], []
    for _ in range(20):
        built.append(case.fresh().state_dict())
        with torch.no_grad():
            for t in module.state_dict().values():
                t.fill_(0.125)
        module.reset_parameters()
        reset.append({name: t.clone() for name, t in module.state_dict().items()})
    for name in built[0]:
        wanted, got = (torch.stack([s[name] for s in states]).double() for states in (built, reset))
        if (wanted == wanted[0]).all():  # a constant, if not the same one everywhere
            assert torch.equal(got, wanted), f"{name} starts constant, and is reset otherwise"
            continue
        error = 6 / wanted.numel() ** 0.5
        spread = wanted.std()
        assert (got.mean() - wanted.mean()).abs() < error * spread, f"{name}: another mean"
        assert (got.std() / spread - 1).abs() < error, f"{name}: another scale"


@law()
def test_shapes_are_known_on_meta(case: Case) -> None:
    """Where nothing is computed, a tool can still ask what would come out."""
    inputs = draw(case.fresh(), dtype=torch.float32)
    want = [t.shape for t in flat(case.fresh()(*inputs))]
    got = flat(case.fresh(device="meta").to("meta")(*(x.to("meta") for x in inputs)))
    assert [t.shape for t in got] == want and all(t.is_meta for t in got)


@law(lambda case: any(t.is_floating_point() for t in case.fresh().state_dict().values()))
def test_dtype_reaches_every_parameter(case: Case) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        module = case.fresh(dtype=dtype)
        tensors = (*module.parameters(), *module.buffers())
        assert {t.dtype for t in tensors if t.is_floating_point()} == {dtype}
    module = case.fresh(dtype=torch.float64)
    assert all(y.dtype == torch.float64 for y in flat(module(*draw(module))))


@law()
def test_copies_and_pickles_give_the_same(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert_same(copied(*inputs), module(*inputs))
        randomize(copied)
        assert copied.axes == module.axes
    other = randomize(case.fresh().double())
    assert other.load_state_dict(module.state_dict()) == ([], [])
    assert_same(other(*inputs), module(*inputs), "output from the state dict")


@law(lambda case: len(patterns(case.fresh())[0].split()) == 4)
def test_channels_last_is_kept(case: Case) -> None:
    """The same numbers, laid out like the input where the output is an image like it."""
    module = case.module()
    inputs = draw(module)
    last = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
    want = flat(module(*inputs))
    module = module.to(memory_format=torch.channels_last)
    got = flat(module(*last))
    assert_same(got, want)
    for y in got:
        if y.shape == inputs[0].shape:
            assert y.is_contiguous(memory_format=torch.channels_last)


@law()
def test_strided_input_gives_the_same(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    strided = [x.mT.contiguous().mT for x in inputs]
    assert_same(module(*strided), module(*inputs))


@law()
def test_half_precision_is_close(case: Case) -> None:
    module = case.module()
    inputs = draw(module)
    want = module(*inputs)
    got = copy.deepcopy(module).bfloat16()(*(x.bfloat16() for x in inputs))
    assert all(y.dtype == torch.bfloat16 for y in flat(got))
    assert_same(got, want, dtype=torch.bfloat16)
    assert_same(
        copy.deepcopy(module).float()(*(x.float() for x in inputs)), want, dtype=torch.float32
    )


@law()
def test_autocast_is_close(case: Case) -> None:
    module = case.module(torch.float32)
    inputs = draw(module, dtype=torch.float32)
    want = module(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(module(*inputs), want, dtype=torch.bfloat16)
        with watched(module):
            assert_same(module(*inputs), want, dtype=torch.bfloat16)


class Softmaxes(TorchDispatchMode):
    """Notes the type that every softmax is computed in."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._softmax.default:
            self.dtypes.append(torch.float32 if args[2] else args[0].dtype)
        return func(*args, **(kwargs or {}))


@law(lambda case: case.axes.range.startswith("softmax"))
def test_softmax_is_in_single_precision_under_autocast(case: Case) -> None:
    module = case.module(torch.float32)
    inputs = draw(module, dtype=torch.float32)
    with watched(module), Softmaxes() as softmaxes, torch.autocast("cpu", torch.bfloat16):
        module(*inputs)
    assert softmaxes.dtypes, "no softmax ran"
    assert set(softmaxes.dtypes) == {torch.float32}
