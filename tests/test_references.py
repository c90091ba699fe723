"""Records that no golden case covers: the class is written out here, from its formula."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from closeness import assert_same
from regard.references import Source, matching

CONV = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}
POOL = {1: nn.functional.max_pool1d, 2: nn.functional.max_pool2d, 3: nn.functional.max_pool3d}
WINDOW = {1: 2, 2: 2, 3: (1, 2, 2)}  # never in time
SIZE = (6, 5, 4)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5 if shape else torch.randn(())


def convolution(name: str, out: int, channels: int, dims: int) -> dict[str, Tensor]:
    """The entries of mmcv's ConvModule with a kernel of one."""
    shape = (out, channels, *[1] * dims)
    return {f"{name}.conv.weight": torch.randn(shape).double(), f"{name}.conv.bias": random(out)}


def non_local(state: dict[str, Tensor], x: Tensor, mode: str, scaled: bool, pooled: bool) -> Tensor:
    """The forward pass of mmcv's NonLocal layers, by its formula."""
    dims = x.dim() - 2
    within = ".0" if pooled else ""

    def convolve(name: str) -> Tensor:
        y = CONV[dims](x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"])
        return POOL[dims](y, WINDOW[dims]) if pooled and name != "theta" else y

    g = convolve(f"g{within}").flatten(2).mT
    if mode == "gaussian":
        theta, phi = x.flatten(2).mT, (POOL[dims](x, WINDOW[dims]) if pooled else x).flatten(2)
    else:
        theta, phi = convolve("theta").flatten(2).mT, convolve(f"phi{within}").flatten(2)
    scores = theta @ phi
    if mode == "dot_product":
        a = scores / scores.shape[-1]
    else:
        scale = theta.shape[-1] ** -0.5 if scaled and mode == "embedded_gaussian" else 1.0
        a = (scores * scale).softmax(-1)
    y = (a @ g).mT.unflatten(2, x.shape[2:])
    return x + CONV[dims](y, state["conv_out.conv.weight"], state["conv_out.conv.bias"])


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("mode", ["embedded_gaussian", "gaussian", "dot_product"])
@pytest.mark.parametrize(("scaled", "pooled"), [(True, False), (False, True)])
def test_non_local_of_mmcv(dims: int, mode: str, scaled: bool, pooled: bool) -> None:
    within, x = ".0" if pooled else "", random(2, 8, *SIZE[:dims])
    state = convolution(f"g{within}", 4, 8, dims)
    if mode != "gaussian":
        state |= convolution("theta", 4, 8, dims) | convolution(f"phi{within}", 4, 8, dims)
    state |= convolution("conv_out", 8, 4, dims)
    kwargs = {"in_channels": 8, "mode": mode, "use_scale": scaled, "sub_sample": pooled}
    ours = regard.load_reference("non_local", f"open-mmlab/mmcv:NonLocal{dims}d", kwargs, state)
    assert_same(ours.eval()(x), non_local(state, x, mode, scaled, pooled))


def test_a_repository_without_a_class_is_known_by_its_weights() -> None:
    state = convolution("g", 4, 8, 2) | convolution("conv_out", 8, 4, 2)
    state |= convolution("theta", 4, 8, 2) | convolution("phi", 4, 8, 2)
    ours = regard.load_reference("non_local", "mmcv", {"in_channels": 8}, state)
    assert isinstance(ours, regard.NonLocal)


def test_context_block_of_mmcv() -> None:
    """The one of GCNet, whose first argument is called otherwise."""
    theirs = regard.load_reference  # both names lead to one module
    given: dict[str, Any] = {"ratio": 0.5, "pooling_type": "avg"}
    own = regard.GlobalContext(8, hidden_dim=4, pooling="mean").double()
    state = {n.replace("add.", "channel_add_conv."): t for n, t in own.state_dict().items()}
    x = random(2, 8, 5, 4)
    first = theirs("gc", "mmcv:ContextBlock", {"in_channels": 8, **given}, state)
    second = theirs("gc", "xvjiarui/GCNet:ContextBlock", {"inplanes": 8, **given}, state)
    assert_same(first(x), own(x))
    assert_same(second(x), own(x))


def scse() -> dict[str, Tensor]:
    shapes = {"cSE.1": (4, 64), "cSE.3": (64, 4), "sSE.0": (1, 64)}
    weights = {f"{name}.weight": random(*shape)[..., None, None] for name, shape in shapes.items()}
    return weights | {f"{name}.bias": random(shape[0]) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "source",
    [
        "qubvel/segmentation_models.pytorch",
        "qubvel-org/segmentation_models.pytorch",
        "segmentation_models_pytorch",
        "segmentation_models_pytorch:SCSEModule",
    ],
)
@pytest.mark.parametrize("kwargs", [{}, {"in_channels": 64}, {"in_channels": 64, "reduction": 16}])
def test_one_implementation_has_several_names(source: str, kwargs: dict[str, Any]) -> None:
    """And its arguments are read off the weights."""
    ours = regard.load_reference("scse", source, kwargs, scse())
    assert ours.arguments["channels"] == 64


@pytest.mark.parametrize(
    ("kwargs", "error", "said"),
    [
        ({"in_chanels": 64}, TypeError, 'no argument "in_chanels"; did you mean "in_channels"'),
        ({"in_channels": 32}, ValueError, r"squeeze.weight is \(4, 64, 1, 1\), wanted \(2, 32\)"),
    ],
)
def test_wrong_arguments_are_named(kwargs: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        regard.load_reference("scse", "segmentation_models_pytorch", kwargs, scse())


def test_what_no_weight_tells_has_to_be_said() -> None:
    with pytest.raises(TypeError, match="CAM_Module needs the argument in_dim"):
        regard.load_reference("danet", "junfu1115/DANet:CAM_Module", {}, {"gamma": torch.zeros(1)})


def test_the_nearest_record_is_meant() -> None:
    [plain] = matching(regard.ScSE, "ai-med/squeeze_and_excitation:ChannelSELayer")
    both = "ai-med/squeeze_and_excitation@1 a.py:ChannelSELayer, SpatialSELayer; fusion from a"
    [joined] = matching(regard.ScSE, both)
    assert plain is not joined
    assert len(Source.parse(joined.source).words) == 2


def test_records_are_read_without_torch() -> None:
    """So that old scripts of TensorFlow can use them."""
    code = (
        "import sys\nfrom regard.catalog import entries\nfrom regard.references import records\n"
        "assert sum(len(records(key)) for key in entries()) > 100\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
