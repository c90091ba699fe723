"""Classes of other libraries that are no golden: run here, or written out from their equations."""

from __future__ import annotations

import inspect
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, gelu, linear, pad, silu

from cases import randomize
from closeness import assert_same
from regard.factory import create, load_reference

TIMM = "timm.models"
HEADS = dict(dim=16, num_heads=4, qkv_bias=True)
# The mechanism, the module and the class there, and its arguments.
ON_TOKENS = (
    ("cross_covariance", f"{TIMM}.xcit", "XCA", HEADS),
    ("class_attention", f"{TIMM}.cait", "ClassAttn", HEADS),
    ("talking_heads", f"{TIMM}.cait", "TalkingHeadAttn", HEADS),
)


TV = "torchvision.models.swin_transformer"
PAIRS = dict(dim=16, key_dim=4, num_heads=4, attn_ratio=1, kernels=(3, 5, 3, 3))
SHIFTED = dict(dim=16, window_size=[4, 3], shift_size=[2, 1], num_heads=4)
# As above, with what the class is called in the records where that is not its name.
ON_IMAGES = (
    (
        "cascaded_group",
        f"{TIMM}.efficientvit_msra",
        "LocalWindowAttention",
        PAIRS | dict(window_resolution=5),
    ),
    ("locally_grouped", f"{TIMM}.twins", "LocallyGroupedAttn", dict(dim=16, num_heads=4, ws=4)),
    (
        "spatial_reduction",
        f"{TIMM}.twins",
        "GlobalSubSampleAttn",
        dict(dim=16, num_heads=4, sr_ratio=3),
    ),
    ("spatial_reduction", f"{TIMM}.pvt_v2", "Attention", dict(dim=16, num_heads=4, sr_ratio=2)),
    ("spatial_reduction", f"{TIMM}.pvt_v2", "Attention", dict(dim=16, linear_attn=True)),
    ("window", TV, "ShiftedWindowAttention", SHIFTED),
    ("window", TV, "ShiftedWindowAttentionV2", SHIFTED),
)
RECORDS = {f"{TIMM}.pvt_v2": "timm:pvt_v2.Attention", TV: "torchvision:{name}"}


def randomized(module: nn.Module) -> Any:
    """Draw what a class learns, but leave the tables that it computes."""
    tables = {n: t.clone() for n, t in module.state_dict().items() if n.endswith("_table")}
    tables = {n: t for n, t in tables.items() if n not in dict(module.named_parameters())}
    randomize(module).load_state_dict(tables, strict=False)
    return module.eval()


def on_image(theirs: nn.Module, x: Tensor) -> Tensor:
    """Call a class that takes tokens and their grid, or channels last, with an image."""
    names = list(inspect.signature(theirs.forward).parameters)
    if len(names) == 2:
        return theirs(x.flatten(2).mT, x.shape[2:]).mT.unflatten(2, x.shape[2:])
    if type(theirs).__module__ == TV:
        return theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return theirs(x)


@pytest.mark.parametrize(("key", "module", "name", "kwargs"), ON_IMAGES)
def test_on_images(key: str, module: str, name: str, kwargs: dict[str, Any]) -> None:
    cls = getattr(pytest.importorskip(module), name)
    theirs = randomized(cls(**kwargs).double())
    source = RECORDS.get(module, "timm:{name}").format(name=name)
    ours = load_reference(key, source, kwargs, theirs.state_dict()).eval()
    x = torch.randn(2, 16, 11, 7, dtype=torch.float64)
    single = name.endswith("V2")  # its table of distances is computed so
    assert_same(ours(x), on_image(theirs, x), dtype=torch.float32 if single else x.dtype)


def test_one_window_of_cascaded_groups() -> None:
    module = pytest.importorskip(f"{TIMM}.efficientvit_msra")
    kwargs = PAIRS | dict(resolution=5)
    theirs = randomize(module.CascadedGroupAttention(**kwargs).double())
    theirs.eval()  # returns nothing
    state = theirs.state_dict()
    ours = load_reference("cga", "timm:CascadedGroupAttention", kwargs, state).eval()
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    assert_same(ours(x), theirs(x))
    names = {n: f"attn.{n.replace('.conv.', '.c.')}" for n in state}
    windowed = {names[n]: t for n, t in state.items()}
    kwargs |= dict(resolution=9, window_resolution=5)
    ours = load_reference("cga", "microsoft/Cream:LocalWindowAttention", kwargs, windowed).eval()
    assert_same(ours(x), theirs(x))


@pytest.mark.parametrize(("key", "module", "name", "kwargs"), ON_TOKENS)
def test_on_tokens(key: str, module: str, name: str, kwargs: dict[str, Any]) -> None:
    theirs = randomize(getattr(pytest.importorskip(module), name)(**kwargs).double()).eval()
    ours = load_reference(key, f"timm:{name}", kwargs, theirs.state_dict()).eval()
    tokens = torch.randn(2, 15, 16, dtype=torch.float64)
    assert_same(ours(tokens), theirs(tokens))


def test_class_attention_of_xcit_is_that_of_cait_and_the_patches() -> None:
    """Its projections are one layer."""
    sizes = {"qkv.weight": (18, 6), "proj.weight": (6, 6), "proj.bias": (6,)}
    state = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    apart = dict(zip("qkv", state["qkv.weight"].chunk(3), strict=True))
    apart = {f"{name}.weight": t for name, t in apart.items()}
    apart |= {name: state[name] for name in ("proj.weight", "proj.bias")}
    kwargs = dict(dim=6, num_heads=2)
    xcit = load_reference("cait", "facebookresearch/xcit:ClassAttention", kwargs, state).eval()
    cait = load_reference("cait", "facebookresearch/deit:Class_Attention", kwargs, apart).eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    assert_same(xcit(x), torch.cat([cait(x), x[:, 1:]], 1))


def normed(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A convolution of YOLO in evaluation, with its batch norm."""
    weight = state[f"{name}.conv.weight"]
    groups = 1 if weight.shape[1] > 1 else len(weight)
    y = conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)
    norm = (state[f"{name}.bn.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    return batch_norm(y, *norm)


@pytest.mark.parametrize("source", ["ultralytics:PSA", "THU-MIG/yolov10:PSA"])
def test_partial_attention_of_yolo_leaves_the_first_half_out(source: str) -> None:
    """Eight channels, of which four are attended to by one head, with two for its keys."""
    layers = {"cv1": (8, 8, 1), "attn.qkv": (8, 4, 1), "attn.pe": (4, 1, 3), "attn.proj": (4, 4, 1)}
    layers |= {"ffn.0": (8, 4, 1), "ffn.1": (4, 8, 1), "cv2": (8, 8, 1)}
    state = {}
    for name, (out, into, side) in layers.items():
        state[f"{name}.conv.weight"] = torch.randn(out, into, side, side, dtype=torch.float64)
        for part in ("running_mean", "weight", "bias"):
            state[f"{name}.bn.{part}"] = torch.randn(out, dtype=torch.float64)
        state[f"{name}.bn.running_var"] = torch.rand(out, dtype=torch.float64) + 0.5
    ours = load_reference("psa_yolo", source, dict(c1=8, c2=8, e=0.5), state).eval()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)

    kept, b = silu(normed(state, "cv1", x)).chunk(2, 1)
    q, k, v = normed(state, "attn.qkv", b).flatten(2).split([2, 2, 4], 1)
    o = (v @ (q.mT @ k / 2**0.5).softmax(-1).mT).unflatten(2, (5, 3))
    v = v.unflatten(2, (5, 3))
    b = b + normed(state, "attn.proj", o + normed(state, "attn.pe", v))
    b = b + normed(state, "ffn.1", silu(normed(state, "ffn.0", b)))
    assert_same(ours(x), silu(normed(state, "cv2", torch.cat([kept, b], 1))))


def test_attention_of_yolo_is_the_same_in_both_repositories() -> None:
    kwargs = dict(dim=8, num_heads=2)
    module = create("psa_yolo", 8, num_heads=2, form="attention").double()
    state = module.state_dict()
    names = {"qkv": "qkv", "local": "pe", "out": "proj"}
    state = {
        f"{names[layer]}.{'conv' if index == '0' else 'bn'}.{rest}": t
        for (layer, index, rest), t in ((n.split("."), t) for n, t in state.items())
    }
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)
    for repo in ("ultralytics", "THU-MIG/yolov10"):
        ours = load_reference("psa_yolo", f"{repo}:Attention", kwargs, state)
        assert_same(ours.eval()(x), module.eval()(x))


@pytest.mark.parametrize("relative", [True, False])
def test_bottleneck_attention_of_the_other_library(relative: bool) -> None:
    """Scores by row and column, each pair written out."""
    h, w, heads, d = 4, 3, 2, 5
    names = ("rel_height", "rel_width") if relative else ("height", "width")
    rows, columns = (2 * h - 1, 2 * w - 1) if relative else (h, w)
    sizes = {"to_qkv.weight": (3 * heads * d, 6, 1, 1)}
    sizes |= {f"pos_emb.{n}": (size, d) for n, size in zip(names, (rows, columns), strict=True)}
    state = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    kwargs = dict(dim=6, fmap_size=[h, w], heads=heads, dim_head=d, rel_pos_emb=relative)
    source = "lucidrains/bottleneck-transformer-pytorch:Attention"
    ours = load_reference("botnet", source, kwargs, state)
    x = torch.randn(2, 6, h, w, dtype=torch.float64)

    qkv = conv2d(x, state["to_qkv.weight"]).flatten(2).unflatten(1, (3, heads, d)).mT
    q, k, v = qkv.unbind(1)  # b heads n d
    q = q / d**0.5
    scores = torch.empty(2, heads, h * w, h * w, dtype=torch.float64)
    for i, j in product(range(h * w), repeat=2):
        (row, column), (to_row, to_column) = divmod(i, w), divmod(j, w)
        if relative:
            to_row, to_column = to_row - row + h - 1, to_column - column + w - 1
        place = state[f"pos_emb.{names[0]}"][to_row] + state[f"pos_emb.{names[1]}"][to_column]
        scores[..., i, j] = (q[:, :, i] * (k[:, :, j] + place)).sum(-1)
    y = scores.softmax(-1) @ v
    assert_same(ours(x), y.mT.flatten(1, 2).unflatten(2, (h, w)))


def test_disentangled_block_of_mmsegmentation_projects_both_parts_at_once() -> None:
    shapes = {"theta.conv.weight": (4, 8, 1, 1), "phi.conv.weight": (4, 8, 1, 1)}
    shapes |= {"g.conv.weight": (4, 8, 1, 1), "conv_out.conv.weight": (8, 4, 1, 1)}
    shapes |= {f"{n}.conv.bias": (4,) for n in ("theta", "phi", "g")}
    shapes |= {f"conv_out.bn.{n}": (8,) for n in ("running_mean", "weight", "bias")}
    shapes |= {"conv_mask.weight": (1, 8, 1, 1), "conv_mask.bias": (1,)}
    state = {n: torch.randn(shape, dtype=torch.float64) for n, shape in shapes.items()}
    state["conv_out.bn.running_var"] = torch.rand(8, dtype=torch.float64) + 0.5
    source = "open-mmlab/mmsegmentation:DisentangledNonLocal2d"
    ours = load_reference("dnl", source, dict(in_channels=8, temperature=0.5), state).eval()
    x = torch.randn(2, 8, 5, 3, dtype=torch.float64)

    q, k, v = (
        conv2d(x, state[f"{n}.conv.weight"], state[f"{n}.conv.bias"]).flatten(2)
        for n in ("theta", "phi", "g")
    )
    q, k = (t - t.mean(2, keepdim=True) for t in (q, k))
    pairs = (q.mT @ k / 4**0.5 / 0.5).softmax(-1)
    unary = conv2d(x, state["conv_mask.weight"], state["conv_mask.bias"]).flatten(2).softmax(-1)
    read = (v @ pairs.mT + v @ unary.mT).unflatten(2, (5, 3))
    assert_same(ours(x), x + normed(state, "conv_out", read))


def test_light_hamburger_has_a_gradient_through_all_updates() -> None:
    shapes = {"ham_in.conv.weight": (6, 6, 1, 1), "ham_in.conv.bias": (6,)}
    shapes |= {"ham_out.conv.weight": (6, 6, 1, 1)}
    shapes |= {f"ham_out.bn.{n}": (6,) for n in ("running_mean", "weight", "bias")}
    state = {n: torch.randn(shape, dtype=torch.float64) for n, shape in shapes.items()}
    state["ham_out.bn.running_var"] = torch.rand(6, dtype=torch.float64) + 0.5
    kwargs = dict(ham_channels=6, ham_kwargs=dict(MD_R=3, eval_steps=2))
    ours = load_reference("ham", "open-mmlab/mmsegmentation:Hamburger", kwargs, state).eval()

    def theirs(x: Tensor) -> Tensor:
        features = conv2d(x, state["ham_in.conv.weight"], state["ham_in.conv.bias"])
        features = features.relu().flatten(2)  # b d n
        bases = ours.bases.expand(2, -1, -1)
        c = (features.mT @ bases).softmax(-1)
        for step in range(3):
            c = c * (features.mT @ bases) / (c @ (bases.mT @ bases) + 1e-6)
            if step < 2:
                bases = bases * (features @ c) / (bases @ (c.mT @ c) + 1e-6)
        return (x + normed(state, "ham_out", (bases @ c.mT).unflatten(2, (5, 3)))).relu()

    x = torch.randn(2, 6, 5, 3, dtype=torch.float64, requires_grad=True)
    assert_same(ours(x), theirs(x))
    found = (torch.autograd.grad(y(x).square().sum(), x)[0] for y in (ours, theirs))
    assert_same(*found)


@pytest.mark.parametrize("norm", ["WithBias", "BiasFree"])
def test_block_of_restormer(norm: str) -> None:
    """Around its attention, which has golden cases: norms over channels, and a gated network."""
    shapes = {f"norm{i}.body.{part}": (4,) for i in (1, 2) for part in ("weight", "bias")}
    shapes |= {"attn.qkv.weight": (12, 4, 1, 1), "attn.qkv_dwconv.weight": (12, 1, 3, 3)}
    shapes |= {"attn.temperature": (2, 1, 1), "attn.project_out.weight": (4, 4, 1, 1)}
    shapes |= {"ffn.project_in.weight": (12, 4, 1, 1), "ffn.dwconv.weight": (12, 1, 3, 3)}
    shapes |= {"ffn.project_out.weight": (4, 6, 1, 1)}
    state = {n: torch.randn(shape, dtype=torch.float64) for n, shape in shapes.items()}
    if norm == "BiasFree":
        state = {n: t for n, t in state.items() if not n.endswith("bias")}
    kwargs = dict(dim=4, num_heads=2, ffn_expansion_factor=1.5, bias=False, LayerNorm_type=norm)
    block = load_reference("mdta", "swz30/Restormer:TransformerBlock", kwargs, state).eval()
    own = {n.removeprefix("attn."): t for n, t in state.items() if n.startswith("attn.")}
    kwargs = dict(dim=4, num_heads=2, bias=False)
    attention = load_reference("mdta", "swz30/Restormer:Attention", kwargs, own).eval()

    def normalized(x: Tensor, i: int) -> Tensor:
        y = x.movedim(1, -1)
        y = y if norm == "BiasFree" else y - y.mean(-1, keepdim=True)
        y = y / (y.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        y = y * state[f"norm{i}.body.weight"] + state.get(f"norm{i}.body.bias", 0)
        return y.movedim(-1, 1)

    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    u = x + attention(normalized(x, 1))
    wide = conv2d(normalized(u, 2), state["ffn.project_in.weight"])
    first, second = conv2d(wide, state["ffn.dwconv.weight"], padding=1, groups=12).chunk(2, 1)
    want = u + conv2d(gelu(first) * second, state["ffn.project_out.weight"])
    assert_same(block(x), want)


def test_padding_of_groups_is_attended_to_as_any_other_position() -> None:
    """What Twins' code for segmentation does in `forward_padding`, group by group."""
    kwargs = dict(dim=6, num_heads=2, qkv_bias=True, ws=4)
    sizes = {"qkv.weight": (18, 6), "qkv.bias": (18,), "proj.weight": (6, 6), "proj.bias": (6,)}
    state = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    source = "Meituan-AutoML/Twins:GroupAttention.forward_padding"
    ours = load_reference("twins", source, kwargs, state).eval()
    x = torch.randn(1, 6, 7, 4, dtype=torch.float64)
    (image,) = pad(x, (0, 0, 0, 1)).permute(0, 2, 3, 1)  # 8 rows of 4
    rows = []
    for group in image.unflatten(0, (2, 4)):
        tokens = linear(group.flatten(0, 1), state["qkv.weight"], state["qkv.bias"])
        q, k, v = tokens.unflatten(1, (3, 2, 3)).permute(1, 2, 0, 3)  # heads n d each
        y = (q @ k.mT / 3**0.5).softmax(-1) @ v
        rows.append(
            linear(y.mT.permute(2, 0, 1).flatten(1), state["proj.weight"], state["proj.bias"])
        )
    want = torch.cat(rows).unflatten(0, (8, 4))[:7].permute(2, 0, 1)[None]
    assert_same(ours(x), want)
