"""Records that no golden case covers: the class is written out here, from its formula."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from closeness import assert_same
from regard.mechanisms.deformable_conv import deform
from regard.references import Source, matching
from replay import Golden

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


@pytest.mark.parametrize("norm", [False, True])
def test_block_of_rcan(norm: bool) -> None:
    """Two convolutions and a gate, added to the input; with batch norms, the indices move."""
    torch.manual_seed(0)
    conv = [nn.Conv2d(6, 6, 5, padding=2, bias=False).double() for _ in range(2)]
    norms = [nn.BatchNorm2d(6).double() for _ in range(2)] if norm else [nn.Identity()] * 2
    gate = [nn.Linear(6, 3).double(), nn.Linear(3, 6).double()]
    layers = {"0": conv[0], "2": conv[1], "3.conv_du.0": gate[0], "3.conv_du.2": gate[1]}
    if norm:
        layers = {"0": conv[0], "1": norms[0], "3": conv[1], "4": norms[1]}
        layers |= {"5.conv_du.0": gate[0], "5.conv_du.2": gate[1]}
    state = {f"body.{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    kwargs = dict(n_feat=6, kernel_size=5, reduction=2, bias=False, bn=norm, res_scale=0.5)
    ours = regard.load_reference("rcab", "yulunzhang/RCAN:RCAB", kwargs, state).train()
    x = random(2, 6, 7, 5)
    z = norms[1](conv[1](norms[0](conv[0](x)).relu()))
    a = gate[1](gate[0](z.mean((2, 3))).relu()).sigmoid()[..., None, None]
    assert_same(ours(x), x + a * z)


def test_block_of_basicsr() -> None:
    """The same block, with what is added scaled."""
    torch.manual_seed(0)
    conv = [nn.Conv2d(6, 6, 3, padding=1).double() for _ in range(2)]
    gate = [nn.Linear(6, 2).double(), nn.Linear(2, 6).double()]
    layers = {"0": conv[0], "2": conv[1], "3.attention.1": gate[0], "3.attention.3": gate[1]}
    state = {f"rcab.{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    kwargs = dict(num_feat=6, squeeze_factor=3, res_scale=0.25)
    ours = regard.load_reference("rcab", "XPixelGroup/BasicSR:RCAB", kwargs, state)
    x = random(2, 6, 7, 5)
    z = conv[1](conv[0](x).relu())
    a = gate[1](gate[0](z.mean((2, 3))).relu()).sigmoid()[..., None, None]
    assert_same(ours(x), x + 0.25 * a * z)


@pytest.mark.parametrize("torch_gn", [False, True])
def test_spatial_unit_of_scconv(torch_gn: bool) -> None:
    """Without torch's norm, it divides by the unbiased deviation and adds eps to that."""
    torch.manual_seed(0)
    state = {"gn.weight": random(8, 1, 1), "gn.bias": random(8, 1, 1)}
    kwargs = dict(oup_channels=8, group_num=2, gate_treshold=0.4, torch_gn=torch_gn)
    ours = regard.load_reference("scconv_cvpr23", "cheng-haha/ScConv:SRU", kwargs, state)
    x = random(2, 8, 7, 5)
    rows = x.reshape(2, 2, -1)
    mean, variance = rows.mean(2, keepdim=True), rows.var(2, keepdim=True, unbiased=not torch_gn)
    scale = (variance + 1e-5).sqrt() if torch_gn else variance.sqrt() + 1e-10
    z = ((rows - mean) / scale).reshape(x.shape) * state["gn.weight"] + state["gn.bias"]
    r = (z * (state["gn.weight"] / state["gn.weight"].sum())).sigmoid()
    high = r > 0.4
    u, v = x * r.masked_fill(high, 1.0), x * r.masked_fill(high, 0.0)
    want = torch.cat([u[:, :4] + v[:, 4:], u[:, 4:] + v[:, :4]], 1)
    assert_same(ours(x), want)


GATES = {
    "lska.attention_k23": ("LSKA", dict(dim=6, k_size=23)),
    "msca.attention": ("AttentionModule", dict(dim=6)),
    "lsk.attention": ("LSKblock", dict(dim=6)),
    "dlka.attention_light": ("deformable_LKA_experimental", dict(dim=5)),
}


@pytest.mark.parametrize("case", GATES)
def test_gate_that_a_block_has_inside(case: str) -> None:
    """The class of the gate alone gives what the gate of the block in a golden case gives."""
    golden = Golden.read(Path(__file__).parent / "golden" / f"{case}.safetensors")
    name, kwargs = GATES[case]
    source = f"{Source.parse(golden.meta['reference']).repo}:{name}"
    state = golden.under("state.spatial_gating_unit")
    gate = regard.load_reference(golden.key, source, kwargs, state)
    x = golden.tensors["input"]
    assert_same(gate(x), golden.build().get_submodule("gate")(x))


def test_deformable_large_kernel_with_dense_offsets() -> None:
    """The gate alone, and in a block, from the operator of deformable convolution."""
    torch.manual_seed(0)
    around = [nn.Conv2d(4, 4, 1).double() for _ in range(2)]
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(4, 4, 1)}
    for name, side in (("conv0", 5), ("conv_spatial", 7)):
        layers[f"{name}.deform_conv"] = nn.Conv2d(4, 4, side, groups=4, bias=False)
        layers[f"{name}.offset_net"] = nn.Conv2d(4, 2 * side**2, side)
    gate = {f"{n}.{k}": t.double() for n, m in layers.items() for k, t in m.state_dict().items()}
    block = {f"spatial_gating_unit.{name}": t for name, t in gate.items()}
    for name, layer in zip(("proj_1", "proj_2"), around, strict=True):
        block |= {f"{name}.{k}": t for k, t in layer.state_dict().items()}
    source = "xmindflow/deformableLKA:deformable_LKA"
    inner = regard.load_reference("dlka", source, dict(dim=4), gate)
    outer = regard.load_reference("dlka", f"{source}_Attention", dict(d_model=4), block)

    def move(name: str, z: Tensor, padding: int, dilation: int) -> Tensor:
        options = dict(padding=padding, dilation=dilation)
        weight, bias = (gate[f"{name}.offset_net.{n}"] for n in ("weight", "bias"))
        offset = nn.functional.conv2d(z, weight, bias, **options)
        options = dict(padding=[padding] * 2, dilation=[dilation] * 2, stride=(1, 1))
        weight = gate[f"{name}.deform_conv.weight"]
        return deform(z, offset.unflatten(1, (1, -1, 2)), None, weight, None, **options)

    x = random(2, 4, 9, 7)
    z = move("conv_spatial", move("conv0", x, 2, 1), 9, 3)
    a = nn.functional.conv2d(z, gate["conv1.weight"], gate["conv1.bias"])
    assert_same(inner(x), x * a)
    assert_same(outer(x), x + around[1](inner(nn.functional.gelu(around[0](x)))))


def test_block_of_pkinet() -> None:
    """Five depthwise kernels, the last four after the first, and a gate from what goes in."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "caa_factor.conv1.conv": nn.Conv2d(8, 8, 1),
        "caa_factor.h_conv.conv": nn.Conv2d(8, 8, (1, 7), padding=(0, 3), groups=8),
        "caa_factor.v_conv.conv": nn.Conv2d(8, 8, (7, 1), padding=(3, 0), groups=8),
        "caa_factor.conv2.conv": nn.Conv2d(8, 8, 1),
    }
    for i, k in enumerate((3, 5, 7, 9, 11)):
        layers[f"dw_conv{i or ''}.conv"] = nn.Conv2d(8, 8, k, padding=k // 2, groups=8)
    for name in ("pre_conv", "pw_conv", "post_conv"):
        layers[f"{name}.conv"] = nn.Conv2d(8, 8, 1, bias=False)
    layers = {name: layer.double() for name, layer in layers.items()}
    norms = {name: nn.BatchNorm2d(8, eps=1e-3, momentum=0.03).double() for name in ("pre", "pw")}
    norms["post"] = nn.BatchNorm2d(8, eps=1e-3, momentum=0.03).double()
    layers |= {f"{name}_conv.bn": norm for name, norm in norms.items()}
    state = {f"{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    kwargs = dict(in_channels=8, caa_kernel_size=7)
    source = "PKINet/PKINet:InceptionBottleneck"
    ours = regard.load_reference("caa", source, kwargs, state).train()

    def apply(name: str, z: Tensor) -> Tensor:
        return nn.functional.silu(norms[name](layers[f"{name}_conv.conv"](z)))

    x = random(2, 8, 7, 5)
    u = apply("pre", x)
    a = nn.functional.avg_pool2d(u, 7, 1, 3)
    for name in ("conv1", "h_conv", "v_conv", "conv2"):
        a = layers[f"caa_factor.{name}.conv"](a)
    t = layers["dw_conv.conv"](u)
    z = apply("pw", t + sum(layers[f"dw_conv{i}.conv"](t) for i in range(1, 5)))
    assert_same(ours(x), apply("post", z + a.sigmoid() * z))


def test_learned_weight_of_mlca_is_found() -> None:
    """Whatever it is called: the only single number beside the kernels."""
    torch.manual_seed(0)
    state = {f"{name}.weight": random(1, 1, 3) for name in ("conv", "conv_local")}
    learned = {**state, "mixing": torch.tensor([0.3]).double()}
    ours = regard.load_reference("mlca", "wandahangFY/MLCA", dict(in_size=16), learned)
    kwargs = dict(in_size=16, local_weight=learned["mixing"].item())
    fixed = regard.load_reference("mlca", "wandahangFY/MLCA", kwargs, state)
    x = random(2, 16, 7, 9)
    assert_same(ours(x), fixed(x))
    assert "weight" in dict(ours.named_parameters())


def test_unfolded_form_of_rfaconv() -> None:
    """The second class of its name; the layers are told apart by their shapes."""
    torch.manual_seed(0)
    weigh, conv = nn.Conv2d(6 * 9, 6 * 9, 1, groups=6).double(), nn.Conv2d(6, 5, 3, 3).double()
    norms = nn.BatchNorm2d(6 * 9).double(), nn.BatchNorm2d(5).double()
    layers = {"get_weights.0": weigh, "get_weights.1": norms[0], "conv": conv, "bn": norms[1]}
    state = {f"{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    kwargs = dict(in_channel=6, out_channel=5)
    source = "Liuchen1997/RFAConv:RFAConv"
    ours = regard.load_reference("rfaconv", source, kwargs, state).train()
    x = random(2, 6, 7, 4)
    windows = nn.functional.unfold(x, 3, padding=1).unflatten(2, (7, 4))
    a = norms[0](weigh(windows)).unflatten(1, (6, 9)).softmax(2)
    side_by_side = nn.functional.pixel_shuffle((a * windows.unflatten(1, (6, 9))).flatten(1, 2), 3)
    assert_same(ours(x), norms[1](conv(side_by_side)).relu())


def test_dynamic_relu_whose_channels_share_the_functions() -> None:
    """Form A: three slopes, then three intercepts, for all channels."""
    torch.manual_seed(0)
    first, last = nn.Linear(8, 4).double(), nn.Linear(4, 6).double()
    layers = {"fc1": first, "fc2": last}
    state = {f"{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    buffers = {"lambdas": torch.tensor([1.0] * 3 + [0.5] * 3), "init_v": torch.eye(6)[0]}
    kwargs = dict(channels=8, reduction=2, k=3)
    source = "Islanna/DynamicReLU:DyReLUA"
    ours = regard.load_reference("dynamic_relu", source, kwargs, {**state, **buffers})
    x = random(2, 8, 7, 5)
    theta = 2 * last(first(x.mean((2, 3))).relu()).sigmoid() - 1
    a, b = (theta * buffers["lambdas"] + buffers["init_v"])[:, :, None, None].split(3, 1)
    pieces = [x * a[:, k : k + 1] + b[:, k : k + 1] for k in range(3)]
    assert_same(ours(x), torch.stack(pieces).amax(0))


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
