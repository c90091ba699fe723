"""Our numbers are those of the papers' own code: output, input gradient, map, on both paths."""

from __future__ import annotations

import inspect
import json
import os
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cases import randomize
from closeness import assert_same, flat
from regard.catalog import entries
from regard.factory import load_reference
from regard.references import Source, records
from replay import Golden, main, mechanism_of, replay, results

FOLDER = Path(__file__).parent / "golden"
MORE = Path(os.environ.get("REGARD_GOLDEN") or FOLDER / "more")  # a folder with more cases
CHECKED = ("output", "grad", "map", "state_after")
XMU = "xmu-xiaoma666/External-Attention-pytorch"  # on PyPI it is called otherwise:
A, C = "fightingcv_attention.attention", "fightingcv_attention.conv"
HEADS = dict(d_model=16, d_k=6, d_v=5, h=4)
CONV = dict(in_planes=16, out_planes=12, kernel_size=3, stride=1, padding=1)
MOVED = dict(in_channels=16, out_channels=12, kernel_size=3, padding=1)
SQUEEZED = dict(input_channels=16, squeeze_channels=5)
SELECT = dict(in_channels=16, split_input=False, stride=2)
NORMED = dict(in_channels=16, radix=4, norm_layer=nn.BatchNorm2d)
HALO = dict(dim=16, num_heads=2, block_size=1, halo_size=2, qkv_bias=True, scale_pos_embed=True)
LOCAL = dict(channels=16, kernel_size=5, bias=True, has_skip=True)
FOCAL = dict(dim=16, focal_window=3, focal_level=2, use_post_norm=True)
SEQUENTIAL = "SequentialPolarizedSelfAttention"
HUB = "huggingface/pytorch-image-models"
SIMPLE = "SimplifiedScaledDotProductAttention"
VIT = dict(img_size=[11, 7], patch_size=1, in_chans=16, embed_dim=24, depth=2, num_heads=3)
MHA = dict(embed_dim=16, num_heads=4, batch_first=True)
MORE_KEYS = dict(**MHA, vdim=9, bias=False, add_bias_kv=True, add_zero_attn=True)
LAYERS = dict(num_encoder_layers=1, num_decoder_layers=2, dim_feedforward=24)
MODEL = dict(d_model=16, nhead=4, dropout=0.0, batch_first=True, **LAYERS)
FIRST = dict(**MODEL, norm_first=True, activation="gelu", bias=False, layer_norm_eps=0.1)
# What is installed is tried itself: the mechanism, the package as its card has it, the module and
# the class there, and arguments for 16 channels.
INSTALLED = (
    ("squeeze_excitation", XMU, f"{A}.SEAttention", "SEAttention", dict(channel=16)),
    ("squeeze_excitation", "timm", "timm.layers", "SEModule", dict(channels=16)),
    ("squeeze_excitation", "timm", "timm.layers", "SEModule", dict(channels=16, bias=False)),
    ("squeeze_excitation", "timm", "timm.layers", "SqueezeExcite", dict(channels=16, rd_ratio=0.3)),
    ("squeeze_excitation", "torchvision", "torchvision.ops", "SqueezeExcitation", SQUEEZED),
    ("eca", XMU, f"{A}.ECAAttention", "ECAAttention", dict(kernel_size=5)),
    ("eca", "timm", "timm.layers", "EcaModule", dict(channels=16, gamma=0.8)),
    ("eca", "timm", "timm.layers", "EfficientChannelAttn", dict(kernel_size=5)),
    ("cbam", XMU, f"{A}.CBAM", "CBAMBlock", dict(channel=16, reduction=3)),
    ("cbam", "timm", "timm.layers.cbam", "CbamModule", dict(channels=16, rd_ratio=0.45)),
    ("cbam", "timm", "timm.layers.cbam", "CbamModule", dict(channels=16, mlp_bias=True)),
    ("coordinate", XMU, f"{A}.CoordAttention", "CoordAtt", dict(inp=16, oup=16)),
    ("coordinate", "timm", "timm.layers.coord_attn", "CoordAttn", dict(channels=16)),
    ("coordinate", "timm", "timm.layers.coord_attn", "CoordAttn", dict(channels=16, bias=True)),
    ("selective_kernel", XMU, f"{A}.SKAttention", "SKAttention", dict(channel=16, group=4, L=5)),
    ("selective_kernel", "timm", "timm.layers", "SelectiveKernel", dict(**SELECT, groups=4)),
    ("selective_kernel", "timm", "timm.layers", "SelectiveKernel", dict(**SELECT, keep_3x3=False)),
    ("global_context", "timm", "timm.layers", "GlobalContext", dict(channels=16)),
    ("global_context", "timm", "timm.layers", "GlobalContext", dict(channels=16, fuse_add=True)),
    ("global_context", "timm", "timm.layers", "GlobalContext", dict(channels=16, use_attn=False)),
    ("deformable_conv", "torchvision", "torchvision.ops", "DeformConv2d", MOVED),
    ("simam", XMU, f"{A}.SimAM", "SimAM", dict(e_lambda=0.01)),
    ("triplet", XMU, f"{A}.TripletAttention", "TripletAttention", dict(no_spatial=True)),
    ("shuffle_attention", XMU, f"{A}.ShuffleAttention", "ShuffleAttention", dict(channel=16)),
    ("spatial_group_enhance", XMU, f"{A}.SGE", "SpatialGroupEnhance", dict(groups=4)),
    ("class_residual", XMU, f"{A}.ResidualAttention", "ResidualAttention", dict(channel=16)),
    ("criss_cross", XMU, f"{A}.CrissCrossAttention", "CrissCrossAttention", dict(in_dim=16)),
    ("cond_conv", XMU, f"{C}.CondConv", "CondConv", CONV),
    ("dynamic_conv", XMU, f"{C}.DynamicConv", "DynamicConv", CONV),
    ("simplified_attention", XMU, f"{A}.SimplifiedSelfAttention", SIMPLE, dict(d_model=16, h=4)),
    ("efficient_multi_head", XMU, f"{A}.EMSA", "EMSA", dict(**HEADS, H=11, W=7)),
    ("muse", XMU, f"{A}.MUSEAttention", "MUSEAttention", HEADS),
    ("multi_head", "torch", "torch.nn", "MultiheadAttention", MHA),
    ("multi_head", "torch", "torch.nn", "MultiheadAttention", dict(**MHA, kdim=12)),
    ("multi_head", "torch", "torch.nn", "MultiheadAttention", MORE_KEYS),
    ("transformer", "torch", "torch.nn", "Transformer", MODEL),
    ("transformer", "torch", "torch.nn", "Transformer", FIRST),
    ("vision_transformer", "timm", "timm.models.vision_transformer", "VisionTransformer", VIT),
    ("vision_transformer", HUB, "timm.models.vision_transformer", "VisionTransformer", VIT),
    ("split_attention", "timm", "timm.layers", "SplitAttn", dict(in_channels=16, groups=2)),
    ("split_attention", "timm", "timm.layers", "SplitAttn", NORMED),
    ("parnet", XMU, f"{A}.ParNetAttention", "ParNetAttention", dict(channel=16)),
    ("polarized", XMU, f"{A}.PolarizedSelfAttention", SEQUENTIAL, dict(channel=16)),
    (
        "involution",
        XMU,
        f"{C}.Involution",
        "Involution",
        dict(kernel_size=3, in_channel=16, group=4),
    ),
    ("outlook", XMU, f"{A}.OutlookAttention", "OutlookAttention", dict(dim=16, num_heads=4)),
    ("outlook", "timm", "timm.models.volo", "OutlookAttention", dict(dim=16, num_heads=4)),
    ("axial", XMU, f"{A}.Axial_attention", "AxialAttention", dict(dim=16, dim_index=1)),
    ("axial", XMU, f"{A}.Axial_attention", "AxialImageTransformer", dict(dim=16, depth=2)),
    ("halo", "timm", "timm.layers.halo_attn", "HaloAttn", HALO),
    ("efficient_local", "timm", "timm.layers.coord_attn", "EfficientLocalAttn", dict(channels=16)),
    ("efficient_local", "timm", "timm.layers.coord_attn", "EfficientLocalAttn", LOCAL),
    ("focal_modulation", "timm", "timm.models.focalnet", "FocalModulation", FOCAL),
    ("ufo", XMU, f"{A}.UFOAttention", "UFOAttention", HEADS),
)
# What is tried in tests of its own: test_references.py, test_transformer.py, test_compat.py,
# test_peers.py, test_contracts.py.
ELSEWHERE = (
    "LeeJunHyun/Image_Segmentation:Attention_block",
    "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock2D_TORR",
    "ozan-oktay/Attention-Gated-Networks:GridAttentionBlock3D_TORR",
    "mmcv:NonLocal1d",
    "mmcv:NonLocal2d",
    "mmcv:NonLocal3d",
    "mmcv:ContextBlock",
    "Meituan-AutoML/Twins:GroupAttention.forward_padding",
    "THU-MIG/yolov10:Attention",
    "THU-MIG/yolov10:PSA",
    "lucidrains/bottleneck-transformer-pytorch:Attention",
    "microsoft/Cream:LocalWindowAttention",
    "open-mmlab/mmsegmentation:DisentangledNonLocal2d",
    "open-mmlab/mmsegmentation:Hamburger",
    "swz30/Restormer:TransformerBlock",
    "timm:CascadedGroupAttention",
    "timm:ClassAttn",
    "timm:GlobalSubSampleAttn",
    "timm:LocalWindowAttention",
    "timm:LocallyGroupedAttn",
    "timm:TalkingHeadAttn",
    "timm:XCA",
    "timm:pvt_v2.Attention",
    "torchvision:ShiftedWindowAttention",
    "torchvision:ShiftedWindowAttentionV2",
    "facebookresearch/xcit:ClassAttention",
    "torch:TransformerEncoder",
    "ultralytics:PSA",
    "torch:TransformerDecoder",
    "XPixelGroup/BasicSR:RCAB",
    "cheng-haha/ScConv:SRU",
    "PKINet/PKINet:InceptionBottleneck",
    "StevenLauHKHK/Large-Separable-Kernel-Attention:LSKA",
    "Visual-Attention-Network/SegNeXt:AttentionModule",
    "zcablii/LSKNet:LSKblock",
    "xmindflow/deformableLKA:deformable_LKA",
    "xmindflow/deformableLKA:deformable_LKA_experimental",
    "xmindflow/deformableLKA:deformable_LKA_Attention",
    "Islanna/DynamicReLU:DyReLUA",
    f"{XMU}:CBAM.py:ChannelAttention",
    f"{XMU}:CBAM.py:SpatialAttention",
)
SEQUENCES = ("queries", "keys", "values", "query", "key", "value", "src", "tgt")
WIDTHS = {"key": "kdim", "value": "vdim"}


@cache
def prefixes() -> set[str]:
    """Every name of a mechanism."""
    return {name for entry in entries().values() for name in entry.names}


@cache
def files() -> dict[str, Path]:
    """Every case of a mechanism in the catalog, by its name; those at hand are ``all/…``."""
    found = {}
    for folder, start in ((MORE, "all/"), (FOLDER, "")):
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                if file.metadata()["mechanism"] in prefixes():
                    found[start + path.stem] = path
    return found


each_case = pytest.mark.parametrize("name", files())


@each_case
@pytest.mark.parametrize("watch", [False, True], ids=["plain", "watched"])
def test_numbers_are_those_of_the_reference(name: str, watch: bool) -> None:
    golden = Golden.read(files()[name])
    got = replay(golden, watch=watch)
    for key, want in golden.tensors.items():
        kind = key.partition(".")[0]
        if kind not in CHECKED or (kind == "map" and not watch):
            continue
        told = f"{name}: {key} (faithful: {golden.meta['faithful']})"
        assert key in got, f"{told}: not among {sorted(got)}"
        assert_same(got[key], want, told)


@each_case
def test_no_weight_is_left_out(name: str) -> None:
    """As many numbers in our state as in theirs, less what nobody reads there."""
    golden = Golden.read(files()[name])
    module, record, _ = golden.loaded()
    theirs = record.read(golden.state)

    def count(state: dict) -> int:
        return sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked"))

    assert count(module.state_dict()) == count(theirs)


@pytest.mark.parametrize("key", entries())
def test_every_mechanism_has_a_golden(key: str) -> None:
    """In the folder, under a name that its card lists."""
    used = {path.stem.partition(".")[0] for path in FOLDER.glob("*.safetensors")}
    assert used & set(entries()[key].names), f"no golden under any of {entries()[key].names}"


def test_every_golden_is_named_for_its_mechanism() -> None:
    for path in sorted(FOLDER.glob("*.safetensors")):
        golden = Golden.read(path)
        assert path.stem.partition(".")[0] == golden.meta["mechanism"]
        assert golden.meta["mechanism"] in entries()[golden.key].names


@pytest.mark.parametrize(
    ("key", "reference"),
    [(key, record.source) for key in entries() for record in records(key) if record.loads],
)
def test_every_reference_has_a_golden(key: str, reference: str) -> None:
    """Or is installed, or written out, and tried itself."""
    if reference in ELSEWHERE:
        return
    sources = []
    for path in FOLDER.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            meta = file.metadata()
        if meta["mechanism"] in prefixes() and mechanism_of(meta) == key:
            sources.append(Source.parse(meta["reference"]))
    sources += [
        Source.parse(f"{package}:{name}") for k, package, _, name, _ in INSTALLED if k == key
    ]
    assert any(source.matches(reference) for source in sources), f"only {sources}"


def wanted(module: nn.Module, image: Tensor) -> list[Tensor]:
    """What its forward takes: the image, or offsets beside it, or its positions as tokens."""
    names = inspect.signature(module.forward).parameters
    if "offset" in names:  # where the op reads, from outside
        taps = module.weight[0, 0].numel()
        return [image, torch.zeros(2, 2 * taps, *image.shape[2:], dtype=image.dtype)]
    tokens = image.flatten(2).mT
    widths = [getattr(module, WIDTHS.get(n, ""), 16) for n in names if n in SEQUENCES]
    return [tokens[..., :width] for width in widths] or [image]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # torch's own fast path
@pytest.mark.parametrize(("key", "package", "module", "name", "kwargs"), INSTALLED)
def test_installed_reference_gives_the_same(
    key: str, package: str, module: str, name: str, kwargs: dict[str, Any]
) -> None:
    """In a training step, and in evaluation after it, where buffers count."""
    theirs = randomize(getattr(pytest.importorskip(module), name)(**kwargs).double())
    ours = load_reference(key, f"{package}:{name}", kwargs, theirs.state_dict())
    for part in (*ours.modules(), *theirs.modules()):
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    image = torch.randn(2, 16, 11, 7, dtype=torch.float64)
    given, weights = wanted(theirs, image), deepcopy(dict(theirs.named_parameters()))
    last = name == "OutlookAttention"  # theirs has its channels there
    for training in (True, False):
        theirs.load_state_dict(weights, strict=False)  # one of them changes its own in each call
        if last:
            want = theirs.train(training)(image.movedim(1, -1)).movedim(-1, 1)
        else:
            want = flat(theirs.train(training)(*given))[0]
        looks = ours.axes.input in ("b c h w", "b c *")
        got = ours.train(training)(*([image] if looks else given))
        assert_same(got.flatten(2).mT if looks and given[0].dim() == 3 else got, want)


@pytest.mark.parametrize("masks", ["none", "apart", "within"])
def test_deformable_op_is_loaded_with_the_layers_around_it(masks: str) -> None:
    ops = pytest.importorskip("torchvision.ops")
    kwargs = dict(in_channels=16, out_channels=12, kernel_size=(3, 2), stride=2, groups=4)
    op = randomize(ops.DeformConv2d(**kwargs).double())
    offset, mask = (randomize(nn.Conv2d(16, n, (3, 2), 2).double()) for n in (24, 12))
    layers = {"offset": offset} | ({"mask": mask} if masks == "apart" else {})
    state = {f"{n}.{k}": t for n, part in layers.items() for k, t in part.state_dict().items()}
    if masks == "within":
        state = {n: torch.cat([t, mask.get_parameter(n[7:])]) for n, t in state.items()}
    kwargs["offset_groups"] = 2
    ours = load_reference("dcn", "torchvision", kwargs, {**op.state_dict(), **state})
    x = torch.randn(2, 16, 11, 7, dtype=torch.float64)
    assert_same(ours(x), op(x, offset(x), None if masks == "none" else mask(x).sigmoid()))


@pytest.mark.parametrize(
    ("key", "source"),
    [(key, record.source) for key in entries() for record in records(key) if not record.loads],
)
def test_what_is_another_mechanism_is_refused_with_the_reason(key: str, source: str) -> None:
    reason = next(record.differs for record in records(key) if record.source == source)
    with pytest.raises(ValueError, match=re.escape(f"{source} is another mechanism: it {reason}")):
        load_reference(key, source, {}, {})


def test_cases_are_replayed_from_what_was_given_alone(tmp_path: Path) -> None:
    """The command needs no output, gradient or map in its input, and writes them all."""
    names = sorted(path.name for path in FOLDER.glob("*.safetensors"))
    (tmp_path / "in").mkdir()
    for name in names:
        golden = Golden.read(FOLDER / name)
        given = {n: t for n, t in golden.tensors.items() if n.partition(".")[0] not in CHECKED}
        save_file(given, tmp_path / "in" / name, dict(golden.meta))
    assert main(str(tmp_path / "in"), str(tmp_path / "out")) == 0
    for name in names:
        golden = Golden.read(FOLDER / name)
        written = load_file(tmp_path / "out" / name)
        assert {n for n in golden.tensors if n.partition(".")[0] in CHECKED} <= written.keys()
        for key, numbers in results(golden).items():
            assert_same(written[key], numbers, key)


def test_a_part_that_a_case_leaves_out_has_no_map() -> None:
    whole = Golden.read(FOLDER / "cbam.eval.safetensors")
    kwargs = json.dumps({**whole.kwargs, "no_spatial": True, "pool_types": ["lp", "lse"]})
    tensors = {n: t for n, t in whole.tensors.items() if "SpatialGate" not in n}
    got = results(Golden({**whole.meta, "kwargs": kwargs}, tensors))
    assert {"output", "grad.input", "map.channel"} == got.keys()
    assert_same(got["output"], got["map.channel"][..., None, None] * whole.tensors["input"])


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12e6


def test_one_case_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = min(FOLDER.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    golden = Golden.read(good)
    (tmp_path / "in").mkdir()
    save_file(golden.tensors, tmp_path / "in" / "good.safetensors", dict(golden.meta))
    unknown = {**golden.meta, "mechanism": "nothing_of_the_kind"}
    save_file(golden.tensors, tmp_path / "in" / "bad.safetensors", unknown)
    assert main(str(tmp_path / "in"), str(tmp_path / "out")) == 1
    assert "bad.safetensors: ValueError: no mechanism" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.safetensors"]
