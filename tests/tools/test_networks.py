"""The networks of the papers: their counts, how they are built, and the commands."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import timm
import torch
from rich.text import Text
from torch import nn
from typer.testing import CliRunner

import regard
from regard.catalog import entries
from regard.cli import app
from regard.explanation import explain
from regard.networks import NETWORKS, Network, Placement, find_networks, network, show_network
from regard.networks.build import build, register
from regard.networks.caffe import resnet
from regard.networks.counting import CONVENTIONS, Counted, Figure, count
from regard.networks.table import records
from regard.networks.transformer import Translator
from regard.surgery import insertions

RECORDS = records()
VERIFIED = [name for name, record in RECORDS.items() if record["verified"] in ("exact", "rounding")]
NOT_BUILT: dict[str, str] = {}  # verified records without a network, and the reasons
# Records whose exact MACs are for a smaller input than the published ones.
INPUTS = {"DANet ResNet-101-d8, ADE20K (MMSeg)": (1, 3, 512, 512)}
IMAGES = [n.name for n in NETWORKS.values() if len(n.shapes) == 1 and len(n.input) == 3]
SCORING = [name for name in IMAGES if name != "gc_mask_rcnn"]  # which returns boxes
QUICK = ("eca_resnet18", "coordinate_mobilenetv2", "vit_base_patch16", "condconv_efficientnet_b0")
COUNTED: dict[str, Counted] = {}


def counted(name: str) -> Counted:
    if name not in COUNTED:
        COUNTED[name] = count(NETWORKS[name])
    return COUNTED[name]


def networks_of(record: str) -> list[str]:
    return [network.name for network in NETWORKS.values() if network.record == record]


def output_of(*args: str) -> str:
    result = CliRunner().invoke(app, ["network", *args])
    assert result.exit_code == 0, result.output
    return Text.from_ansi(result.stdout).plain


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# Every sixth in the fast suite, the others take a second each.
RECORD_PARAMS = [
    pytest.param(record, marks=[pytest.mark.slow] if i % 6 else [])
    for i, record in enumerate(VERIFIED)
]


@pytest.mark.parametrize("record", RECORD_PARAMS)
def test_every_verified_record_is_matched_exactly(record):
    if record in NOT_BUILT:
        assert not networks_of(record), "it is built now: remove the reason"
        return
    names = networks_of(record)
    assert names, f"no network is built for the record {record!r}"
    published = RECORDS[record]
    for name in names:
        cost = counted(name).measurement
        assert cost.params == published["params_exact_verified"]
        if (macs := published["macs_exact_conv_matmul"]) is not None:
            if record in INPUTS:
                cost = count(NETWORKS[name], INPUTS[record]).measurement
            assert cost.macs == macs
        assert not cost.uncounted


@pytest.mark.parametrize("record", VERIFIED)
def test_the_count_rounds_to_the_printed_parameters(record):
    truncated = "truncated" in RECORDS[record]["notes"]
    for name in networks_of(record):
        figure = counted(name).parameters
        if figure.published:
            assert figure.agrees != truncated


@pytest.mark.parametrize("name", [n for n in NETWORKS if NETWORKS[n].convention == "conv+matmul"])
def test_macs_of_our_convention_agree_with_the_printed_ones(name):
    figure = counted(name).macs
    assert figure.published, "a convention needs published MACs"
    assert abs(figure.counted / figure.printed - 1) < 0.012, figure.difference


def test_descriptions_name_what_exists():
    for name, row in NETWORKS.items():
        assert row.name == name
        assert row.backbone.startswith(("timm:", "own:"))
        assert not row.mechanism or row.mechanism in entries()
        assert not row.record or row.record in RECORDS
        assert all(place.mechanism in entries() for place in row.places)
        assert bool(row.convention) == bool(row.published.get("macs_published")), name
        assert row.mechanism or row.venue, f"{name}: where was it published?"
    assert {row.convention for row in NETWORKS.values()} - {""} == CONVENTIONS.keys()


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in SCORING]
)
def test_any_number_of_channels_and_classes(name):
    row = NETWORKS[name]
    model = network(name, num_classes=7, in_chans=2, device="meta").eval()
    x = torch.empty(2, 2, *row.input[1:], device="meta")
    assert model(x).shape[:2] == (2, 7)
    features = model.forward_features(x)
    assert features.shape[0] == 2
    assert features.numel() > 14


@pytest.mark.parametrize(
    "name",
    ["eca_resnet18", "sknet50", "condconv_efficientnet_b0", "triplet_mobilenetv2", "bam_resnet50"],
)
def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = network(name, num_classes=5, drop_path_rate=0.0)
    for module in model.modules():  # timm initializes residual branches to zero
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    unlearned = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unlearned


def test_a_network_is_its_backbone_with_the_mechanism_inserted():
    model = network("se_resnet50", num_classes=10, device="meta")
    plain = timm.create_model("resnet50", num_classes=10)
    assert plain.state_dict().keys() <= model.state_dict().keys()
    inserted = insertions(model)
    assert len(inserted) == 16
    assert {i.mechanism for i in inserted} == {"squeeze_excitation"}
    assert not any(i.gated for i in inserted), "a paper's network is initialized as in the paper"
    assert all(i.path.endswith("bn3") for i in inserted)


def test_selective_kernels_are_followed_by_the_projection_alone():
    block = network("sknet50", device="meta").layer1[0]
    assert isinstance(block.bn2, nn.Identity)
    assert isinstance(block.act2, nn.Identity)
    assert isinstance(block.bn3, nn.BatchNorm2d)


def test_device_and_type():
    model = network("eca_resnet18", dtype=torch.float64, num_classes=3).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 3)
    assert network("eca_resnet18", device="meta").fc.weight.is_meta


def test_the_first_convolution_of_caffes_bottlenecks_has_the_stride():
    model = resnet(depth=50, num_classes=3)
    standard = timm.create_model("resnet50", num_classes=3)
    for name, block in model.named_modules():
        if name.count(".") == 1 and name.startswith("layer"):
            other = standard.get_submodule(name)
            assert block.conv1.stride == other.conv2.stride
            assert block.conv2.stride == (1, 1)
    x = torch.randn(1, 3, 64, 64)
    assert model.eval().forward_features(x).shape == standard.eval().forward_features(x).shape
    with pytest.raises(ValueError, match="depth must be 50, 101 or 152, got 18"):
        resnet(depth=18)


def test_the_convolutions_of_a_block_share_one_map_of_experts():
    model = network("condconv_efficientnet_b0", num_classes=4).eval()
    maps = explain(model, torch.randn(1, 3, 64, 64))
    assert len(maps) == 8
    assert {tuple(m.tensor.shape) for m in maps.values()} == {(1, 4)}


def test_a_translator_depends_on_order_and_not_on_later_tokens():
    torch.manual_seed(0)
    model = Translator(
        30, embed_dim=16, num_heads=2, num_encoder_layers=1, num_decoder_layers=1
    ).eval()
    source, target = torch.randint(30, (1, 6)), torch.randint(30, (1, 5))
    before = model(source, target)
    later = target.clone()
    later[0, 4] = (later[0, 4] + 1) % 30
    after = model(source, later)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])
    assert not torch.allclose(before, model(source.flip(1), target), atol=1e-3)
    embedded = model.embed(torch.zeros(1, 3, dtype=torch.long))[0]
    encoding = embedded - model.embedding.weight[0] * 4
    expected = torch.tensor([1 / 10000 ** (2 * k / 16) for k in range(8)])
    torch.testing.assert_close(encoding[0, 0::2], torch.zeros(8))
    torch.testing.assert_close(encoding[2, 0::2], (2 * expected).sin())
    torch.testing.assert_close(encoding[2, 1::2], (2 * expected).cos())
    with pytest.raises(ValueError, match="must divide embed_dim"):
        Translator(30, embed_dim=15)


def test_modules_to_remove_must_exist():
    row = Network(name="it", title="It", backbone="timm:resnet18", without=("layer9.*",))
    with pytest.raises(ValueError, match=r"it: no module matches 'layer9\.\*'; there are "):
        build(row, "meta", None, {})


def test_a_place_that_matches_no_module_raises():
    place = Placement("eca", "layer9.*.bn2")
    row = Network(name="it", title="It", backbone="timm:resnet18", places=(place,))
    with pytest.raises(ValueError, match="nothing matches at='layer9"):
        build(row, "meta", None, {})


def test_an_unknown_option_raises():
    with pytest.raises(TypeError, match="num_clases"):
        network("se_resnet50", num_clases=10)


def test_names():
    assert regard.network is network
    assert regard.find_networks is find_networks
    assert show_network("SE-ResNet50".replace("-", "_")) is NETWORKS["se_resnet50"]
    assert show_network("se-resnet50-caffe").name == "se_resnet50_caffe"
    assert {n.mechanism for n in find_networks("mobilenet", mechanism="triplet")} == {"triplet"}
    assert find_networks() == list(NETWORKS.values())
    assert find_networks("no such words") == []
    with pytest.raises(ValueError, match=r'no network "zzz"; regard\.find_networks\(\) lists them'):
        network("zzz")
    with pytest.raises(ValueError, match='no network "se_resnet51"; did you mean "se_resnet50"'):
        network("se_resnet51")
    with pytest.raises(ValueError, match="no mechanism"):
        find_networks(mechanism="zzz")


def test_printed_figures_are_parsed():
    assert Figure("MACs", "300.79M", 300_774_272, 1e6).difference == "-0.0052 %"
    assert Figure("MACs", "300.79M", 300_789_000, 1e6).agrees
    assert not Figure("MACs", "300.79M", 300_784_000, 1e6).agrees
    assert Figure("parameters", "+10.0M", 9_996_800, 1e6).difference == "0 %"
    assert Figure("parameters", "11,689,512", 11_689_512, 1).agrees
    assert not Figure("parameters", "11,689,512", 11_689_511, 1).agrees
    assert Figure("parameters", "", 5, 1).difference == ""


def test_timm_has_every_network_that_takes_images():
    register()
    assert set(timm.list_models("regard_*")) == {f"regard_{name}" for name in IMAGES}
    model = timm.create_model("regard_se_resnet50", num_classes=7, in_chans=1, device="meta")
    assert parameters(model) == parameters(
        network("se_resnet50", num_classes=7, in_chans=1, device="meta")
    )
    assert model.num_classes == 7
    assert model.pretrained_cfg["architecture"] == "regard_se_resnet50"
    assert not model.pretrained_cfg.get("url"), (
        "the network must not have the address of the backbone's weights"
    )
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 224, 224)
    with pytest.raises(ValueError, match="se_resnet50: there are no weights for pretrained=True"):
        timm.create_model("regard_se_resnet50", pretrained=True)


def test_timm_returns_the_features_of_each_stage():
    register()
    model = timm.create_model("regard_se_resnet50", features_only=True, device="meta")
    assert len(insertions(model)) == 16
    maps = model(torch.empty(1, 3, 64, 64, device="meta"))
    assert [x.shape[1:] for x in maps] == [
        (64, 32, 32),
        (256, 16, 16),
        (512, 8, 8),
        (1024, 4, 4),
        (2048, 2, 2),
    ]


@pytest.mark.slow
def test_a_script_of_timm_finds_the_networks(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, timm\n"
        "model = timm.create_model(sys.argv[1], num_classes=5, device='meta')\n"
        "print(sum(p.numel() for p in model.parameters()))\n"
    )
    command = [sys.executable, "-m", "regard.networks", str(script), "regard_eca_resnet18"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = parameters(network("eca_resnet18", num_classes=5, device="meta"))
    assert done.stdout.split() == [str(expected)]
    done = subprocess.run(command[:3], capture_output=True, text=True)
    assert done.returncode == 1
    assert "expected a script" in done.stderr


def test_listing_networks_imports_no_framework():
    check = (
        "import sys, regard; regard.find_networks('se'); regard.network\n"
        "from regard.networks import show_network; show_network('se_resnet50').published\n"
        "assert not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_has_every_network_with_its_published_figures():
    lines = output_of("list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(NETWORKS)
    row = next(line for line in lines if line.startswith("se_resnet50 "))
    assert "28.09M" in row
    assert "4.130G" in row
    assert "CVPR 2018" in row
    chosen = json.loads(output_of("list", "--mechanism", "se", "--json"))
    assert [one["name"] for one in chosen] == [n.name for n in find_networks(mechanism="se")]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_page_shows_the_parts_of_the_network(name):
    row, page = NETWORKS[name], output_of("show", name)
    words = [row.title, row.backbone, f'regard.network("{name}")']
    words += [place.at for place in row.places] + list(row.without)
    if row.record:
        words.append(row.published["params_published"] or "")
    assert all(word in " ".join(page.split()) for word in words)


def test_measuring_compares_the_figures_and_explains_their_conventions():
    page = " ".join(output_of("measure", "eca_resnet50").split())
    assert "parameters 24.37M of 2^20 25,557,112 0 %" in page
    assert "MACs 3.86G of 2^30 4.089 G -1.3 %" in page
    assert CONVENTIONS["thop/2^30"] in page
    assert CONVENTIONS["conv+matmul"] in page
    assert "kept for the backward pass" in page
    baseline = " ".join(output_of("measure", "resnet18").split())
    assert baseline.count(CONVENTIONS["conv+matmul"]) == 1


def test_measuring_for_programs():
    options = ("--json", "--set", "num_classes=10")
    read = json.loads(output_of("measure", "eca_resnet18", *options))
    assert read["figures"]["parameters"]["counted"] == 11_689_556 - 990 * 513
    assert read["figures"]["MACs"]["published"] == "1.70G"
    assert read["convention"] == "thop/2^30"
    assert read["memory"] > 0
    small = json.loads(output_of("measure", "eca_resnet18", *options, "--input", "1,3,64,64"))
    assert small["figures"]["MACs"]["counted"] < read["figures"]["MACs"]["counted"]
    assert not small["figures"]["MACs"]["published"], "they are for another input"
    assert small["input"] == [[1, 3, 64, 64]]


def test_an_error_is_one_line():
    result = CliRunner().invoke(app, ["network", "measure", "se_resnet51"])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        'regard: no network "se_resnet51"; did you mean "se_resnet50"?'
    ]


@pytest.mark.slow
def test_the_page_of_figures_is_up_to_date():
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[2] / "docs" / "networks.py"
    spec = importlib.util.spec_from_file_location("networks_page", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text("utf-8") == module.page(), "run docs/networks.py"
