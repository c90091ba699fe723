"""The networks that are written in full: shapes, arguments, and properties from their papers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import regard
from regard.core import grid
from regard.mechanisms.non_local import NonLocal
from regard.mechanisms.self_calibrated_conv import SelfCalibratedBottleneck
from regard.networks import network
from regard.networks.build import register
from regard.networks.classifier import Classifier
from regard.networks.highway import HighwayNetwork
from regard.networks.i3d import I3D
from regard.networks.recurrent import recurrent_attention
from regard.networks.residual_attention import residual_attention_network
from regard.networks.resnest import ResNeSt, SplitAttention
from regard.networks.rest import ResT
from regard.networks.scnet import SCNet
from regard.networks.table.own import OWN
from regard.networks.units import self_attention

IMAGES = [row for row in OWN if len(row.input) == 3]

# Small variants: class, arguments, size of the input, and expected size of the features.
SMALL = {
    "resnest": (ResNeSt, {"layers": (1, 2), "width": 8, "stem_channels": 4}, (65, 48), (64, 9, 6)),
    "scnet": (SCNet, {"layers": (1, 2), "width": 8}, (65, 48), (64, 9, 6)),
    "rest": (ResT, {"layers": (1, 2, 1, 1), "width": 8}, (65, 48), (64, 3, 2)),
    "i3d": (I3D, {"non_local": True, "width": 8}, (9, 65, 48), (256, 1, 3, 2)),
    "highway": (HighwayNetwork, {"width": 8}, (28, 28), (8, 3, 3)),
    "residual_attention": (residual_attention_network, {"stem_channels": 8}, (65, 48), (256, 2, 2)),
    "recurrent_attention": (recurrent_attention, {"num_glimpses": 2}, (28, 40), (256,)),
}


@pytest.fixture(params=SMALL)
def small(request):
    make, options, size, features = SMALL[request.param]
    torch.manual_seed(0)
    model = make(num_classes=5, in_chans=2, **options)
    return model, torch.randn(2, 2, *size), features


def test_scores_and_features_have_their_shapes(small):
    model, x, features = small
    model.eval()
    assert model(x).shape == (2, 5)
    assert model.forward_features(x).shape == (2, *features)
    assert torch.isfinite(model(x)).all()


def test_images_of_a_batch_are_independent(small):
    model, x, _ = small
    model.double().eval()
    x = x.double()
    torch.testing.assert_close(model(x)[1:], model(x[1:]))


def test_every_parameter_learns(small):
    model, x, _ = small
    if hasattr(model, "explore"):  # the policy is trained by REINFORCE
        torch.manual_seed(1)
        model.explore(x).loss(torch.tensor([0, 1])).backward()
    else:
        model.train()(x).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("name", [n for n, row in SMALL.items() if n != "recurrent_attention"])
def test_without_classes_the_scores_are_the_features(name):
    make, options, size, _ = SMALL[name]
    model = make(num_classes=0, in_chans=2, **options).eval()
    x = torch.randn(2, 2, *size)
    expected = model.forward_features(x)
    expected = expected.flatten(1) if name == "highway" else grid.mean(expected)
    torch.testing.assert_close(model(x), expected)


def test_a_new_classifier_keeps_the_type_and_scores_other_classes():
    model = SCNet((1,), num_classes=5, width=8, dtype=torch.float64)
    old = model.fc
    model.reset_classifier(7)
    assert model.num_classes == 7 and model.get_classifier() is model.fc is not old
    assert model(torch.randn(2, 3, 33, 40, dtype=torch.float64)).shape == (2, 7)
    with pytest.raises(ValueError, match="num_classes must be a positive integer, got -1"):
        model.reset_classifier(-1)


@pytest.mark.parametrize("row", OWN, ids=lambda row: row.name)
def test_networks_build_at_full_size_on_the_meta_device(row):
    model = network(row.name, device="meta")
    with torch.no_grad():
        y = model.eval()(*(torch.empty(shape, device="meta") for shape in row.shapes))
    if row.name != "self_attention_unit":
        assert y.shape == (1, row.arguments.get("num_classes", 1000))
    assert all(p.is_meta for p in model.parameters())


@pytest.mark.parametrize("row", IMAGES, ids=lambda row: row.name)
def test_timms_scripts_can_build_them(row):
    import timm

    register()
    # The arguments that its train.py passes by default.
    model = timm.create_model(
        f"regard_{row.name}", num_classes=5, in_chans=2, drop_rate=0.0, scriptable=False
    )
    assert model.num_classes == 5
    assert model.pretrained_cfg["input_size"] == row.input
    assert hasattr(model, "forward_features")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("residual_attention56", 31_810_728),
        ("residual_attention92", 52_466_344),
        ("resnest101", 48_275_016),  # like timm's resnest101e
    ],
)
def test_networks_without_a_record_keep_their_size(name, params):
    model = network(name, device="meta")
    assert sum(p.numel() for p in model.parameters()) == params


@pytest.mark.slow
def test_building_on_the_meta_device_does_not_load_the_compiler():
    code = (
        "import sys\n"
        "from regard.networks import network\n"
        "from regard.networks.table.own import OWN\n"
        "for row in OWN:\n"
        "    network(row.name, device='meta')\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("groups", "radix"), [(1, 2), (2, 2), (1, 4), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_split_attention_equals_timms(groups, radix, stride):
    from timm.layers import SplitAttn

    torch.manual_seed(0)
    arguments = {"in_channels": 16, "out_channels": 24, "stride": stride, "groups": groups}
    theirs = SplitAttn(**arguments, padding=1, radix=radix, norm_layer=nn.BatchNorm2d).double()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = regard.load_reference(
        "split_attention", "timm:SplitAttn", {**arguments, "radix": radix}, theirs.state_dict()
    )
    x = torch.randn(3, 16, 9, 7, dtype=torch.float64)
    for mode in (True, False):
        torch.testing.assert_close(ours.train(mode)(x), theirs.train(mode)(x))


def test_the_weights_of_a_channel_over_splits_sum_to_one():
    x = torch.randn(2, 16, 9, 7)
    seen = []
    module = SplitAttention(16, radix=4, groups=2)
    module.tap.register_forward_hook(lambda tap, args, a: seen.append(a))
    module(x)
    assert seen[0].shape == (2, 4, 16, 1, 1)
    torch.testing.assert_close(seen[0].sum(1), torch.ones(2, 16, 1, 1))
    assert SplitAttention(16, radix=1).axes.range == "unit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radix": 3}, r"groups_and_splits \(3\) must divide in_channels \(16\)"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4"),
        ({"groups": 2, "out_channels": 5}, r"groups \(2\) must divide out_channels \(5\)"),
        ({"radix": 0}, "radix must be a positive integer, got 0"),
    ],
)
def test_split_attention_raises_for_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SplitAttention(16, **options)


def test_resnest_equals_timms_with_its_weights():
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("resnest14d", num_classes=5).double().eval()
    for name, parameter in theirs.named_parameters():
        if "bn" in name:  # timm initializes some to zero
            nn.init.uniform_(parameter, 0.5, 1.5)
    ours = ResNeSt((1, 1, 1, 1), num_classes=5, dtype=torch.float64).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(1, 3, 97, 66, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
        torch.testing.assert_close(ours.forward_features(x), theirs.forward_features(x))


def test_the_maps_of_resnest_and_scnet_are_found():
    x = torch.randn(1, 3, 65, 48)
    resnest = ResNeSt((1, 2), num_classes=5, width=8, stem_channels=4).eval()
    scnet = SCNet((1, 2), num_classes=5, width=8).eval()
    assert len(regard.explain(resnest, x)) == 3
    blocks = sum(isinstance(m, SelfCalibratedBottleneck) for m in scnet.modules())
    assert blocks == 3 and len(regard.explain(scnet, x)) >= 3


def test_non_local_blocks_follow_every_second_block_and_change_nothing_at_first():
    torch.manual_seed(0)
    model = I3D(non_local=True, num_classes=5, width=8).eval()
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, NonLocal)]
    places = [(1, 2), (1, 5), (2, 2), (2, 5), (2, 8)]
    assert [name for name, _ in found] == [f"stages.{i}.{j}" for i, j in places]
    assert all(m.out.bias is None and m.norm.bias is not None for _, m in found)
    x = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        y = model(x)
        nn.init.ones_(found[0][1].norm.weight)
        assert not torch.equal(model(x), y)
        nn.init.zeros_(found[0][1].norm.weight)
        for name, _ in found:
            model.set_submodule(name, nn.Identity())
        torch.testing.assert_close(model(x), y)


def test_every_second_block_has_a_kernel_over_time():
    model = I3D(num_classes=5, width=8)
    spans = [m.kernel_size[0] for m in model.modules() if isinstance(m, nn.Conv3d)]
    assert spans.count(5) == 1 and spans.count(3) == 3 + 2 + 3 + 1
    assert model.stages[0][0].branch[0].kernel_size == (3, 1, 1)
    assert model.stages[3][0].branch[0].kernel_size == (1, 1, 1)


def test_rest_takes_images_of_any_size_and_no_odd_width():
    model = ResT((1, 1, 1, 1), width=8, num_classes=5).eval()
    assert model(torch.randn(1, 3, 33, 97)).shape == (1, 5)
    with pytest.raises(ValueError, match=r"halves \(2\) must divide width \(7\)"):
        ResT(width=7)
    with pytest.raises(ValueError, match=r"layers must be 4 numbers, got \(1, 1\)"):
        ResT((1, 1))


def test_the_larger_rest_have_the_printed_size():
    for name, millions in {"rest_small": 13.7, "rest_base": 30.3, "rest_large": 51.7}.items():
        params = sum(p.numel() for p in network(name, device="meta").parameters())
        assert round(params / 1e6, 1) == millions, name


def test_highway_halves_its_maps_after_the_third_sixth_and_ninth_layer():
    model = HighwayNetwork(width=4).eval()
    sizes = []
    for layer in model.layers:
        if isinstance(layer, regard.Highway):
            layer.register_forward_hook(lambda m, args, y: sizes.append(y.shape[3]))
    assert model.forward_features(torch.randn(1, 1, 28, 28)).shape == (1, 4, 3, 3)
    assert sizes == [24, 24, 12, 12, 12, 6, 6, 6]


def test_highway_raises_for_other_sizes_and_wrong_rates():
    with pytest.raises(ValueError, match=r"expected images of 28 x 28 \(image_size\), got"):
        HighwayNetwork()(torch.randn(1, 1, 32, 32))
    with pytest.raises(ValueError, match="image_size must be 12 or more, got 8"):
        HighwayNetwork(image_size=8)
    with pytest.raises(ValueError, match=r"dropout must be 4 rates, got \(0.5,\)"):
        HighwayNetwork(dropout=(0.5,))
    assert HighwayNetwork(image_size=32)(torch.randn(1, 1, 32, 32)).shape == (1, 10)


def test_the_self_attention_unit_attends_to_all_positions():
    module = self_attention(16)
    assert module(torch.randn(2, 16, 5, 3)).shape == (2, 16, 5, 3)
    assert sum(p.numel() for p in module.parameters()) == 4 * 16 * 16


def test_inputs_of_the_last_layer_are_dropped_in_training_only():
    torch.manual_seed(0)
    model = SCNet((1,), num_classes=5, width=8, drop_rate=0.5)
    model.fc.register_forward_hook(lambda m, args, y: seen.append(args[0] == 0))
    features, seen = torch.rand(4, 32, 3, 3) + 1, []
    model.train().forward_head(features)
    model.eval().forward_head(features)
    assert 32 < int(seen[0].sum()) < 96
    assert not seen[1].any()
    with pytest.raises(ValueError, match="drop_rate must be at least 0 and below 1"):
        SCNet((1,), width=8, drop_rate=1.0)


def test_every_classifier_is_final():
    assert all(not cls.__subclasses__() for cls in Classifier.__subclasses__())
