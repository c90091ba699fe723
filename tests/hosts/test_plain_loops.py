"""Libraries whose models people train in loops of their own: MONAI, torchvision, mmseg's blocks."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pictures import awake, distance, gates, images, same_old_entries, settled
from torch import Tensor, nn

import regard
from regard.surgery import insertions, recipe

pytestmark = pytest.mark.filterwarnings("default")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

# MONAI


def networks() -> dict[str, tuple[Callable[[Any], nn.Module], str, tuple[int, ...]]]:
    """By name: how a network of MONAI is built, where attention goes, and a size of its input."""
    small = {"in_channels": 1, "out_channels": 2}
    unet = {**small, "channels": (8, 16, 32), "strides": (2, 2)}
    return {
        "UNet 2d": (lambda n: n.UNet(2, **unet, num_res_units=1), "residual", (32, 32)),
        "UNet 3d": (lambda n: n.UNet(3, **unet, num_res_units=1), "residual", (32,) * 3),
        "BasicUNet": (
            lambda n: n.BasicUNet(3, 1, 2, features=(8, 8, 16, 16, 32, 8)),
            "block",
            (32,) * 3,
        ),
        "DynUNet": (
            lambda n: n.DynUNet(
                3, **small, kernel_size=[3, 3, 3], strides=[1, 2, 2], filters=[8, 16, 32],
                upsample_kernel_size=[2, 2], res_block=True,
            ),
            "residual",
            (32,) * 3,
        ),
        "SegResNet": (lambda n: n.SegResNet(3, 8, **small), "residual", (32,) * 3),
        "AttentionUnet": (lambda n: n.AttentionUnet(3, **unet), "block", (32,) * 3),
        "UNETR": (
            lambda n: n.UNETR(
                **small, img_size=(32,) * 3, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4
            ),
            "vit.residual",
            (32,) * 3,
        ),
        "ResNet 3d": (
            lambda n: n.resnet18(spatial_dims=3, n_input_channels=1, num_classes=2),
            "residual",
            (32,) * 3,
        ),
    }  # fmt: skip


FAST = ("UNet 3d",)


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in networks()],
)
def test_networks_of_monai(name):
    nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
    make, at, size = networks()[name]
    x = torch.rand(2, 1, *size)
    plain = settled(make(nets).eval(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last layers have too few channels
        new = regard.insert(plain, "cbam", at, skip="unfit", reduction=4)
    places = insertions(new)
    assert len(places) >= 2 and same_old_entries(new, plain)
    assert distance(new(x), plain(x)) == 0
    volumes = [w for w in places if w.layout.axes == "b c t h w"]
    assert len(size) == 2 or volumes or "n" in places[0].layout.axes
    for one in volumes:
        place = dict(new.named_modules())[one.path]
        mechanism = place.get_submodule(one.child).mechanism
        assert mechanism.arguments.get("dims") == 3, "presets set it themselves"
    wanted = awake(new)(x)
    assert distance(wanted, plain(x)) > 1e-4
    assert distance(new(x[:1]), wanted[:1]) < 1e-4
    before = gates(new)
    optimizer = torch.optim.SGD(regard.parameter_groups(new.train(), 0.1))
    new(x).square().mean().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(gates(new), before, strict=True)]
    assert sum(moved) > 0.7 * len(moved)


def test_losses_and_windows_of_monai(tmp_path):
    """The recipe: insert, train with a loss of MONAI, save, load, run over windows."""
    monai = pytest.importorskip("monai", reason="MONAI is not installed")
    make, _, _ = networks()["UNet 2d"]
    net = regard.insert(make(monai.networks.nets), "se", at="model.[01]*.conv", reduction=2)
    loss = monai.losses.DiceLoss(softmax=True, to_onehot_y=True)
    optimizer = torch.optim.AdamW(regard.parameter_groups(net.train(), 1e-2))
    x, y = images(8, 32, 1), torch.randint(0, 2, (8, 1, 32, 32))
    before = gates(net)
    for _ in range(2):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(gates(net), before, strict=True))
    regard.save(net, tmp_path / "net.safetensors")
    loaded = regard.load(make(monai.networks.nets), tmp_path / "net.safetensors").eval()
    windows = monai.inferers.SlidingWindowInferer(roi_size=(32, 32))
    big = images(1, 48, 1)
    assert distance(windows(big, loaded), windows(big, net.eval())) < 1e-6


# torchvision


def detector(kind: str) -> nn.Module:
    models = torchvision.models.detection
    options = {"weights": None, "weights_backbone": None, "num_classes": 3}
    sides = {} if kind.startswith("ssdlite") else {"min_size": 64, "max_size": 64}
    return getattr(models, kind)(**options, **sides)


TARGETS = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]), "labels": torch.tensor([1])}] * 2


@pytest.mark.parametrize(
    "kind",
    [
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        pytest.param("retinanet_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("fcos_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("maskrcnn_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("ssdlite320_mobilenet_v3_large", marks=pytest.mark.slow),
    ],
)
def test_detectors_of_torchvision(kind, tmp_path):
    pictures = [*images(2)]
    plain = detector(kind).eval()
    backbone = copy.deepcopy(plain.backbone)
    new = regard.insert(
        plain, "cbam", "backbone.residual", reduction=8, example_input=(pictures[:1],)
    )
    number = len(insertions(new))
    assert number >= 8 and same_old_entries(new, plain)
    with torch.no_grad():
        for a, b in zip(new(pictures), plain(pictures), strict=True):
            assert all(torch.equal(a[name], b[name]) for name in b)
        x = images(2)
        assert distance(awake(new).backbone(x), backbone(x)) > 1e-4
    before = gates(new)
    optimizer = torch.optim.SGD(regard.parameter_groups(new.train(), 0.01))
    masks = [{**t, "masks": torch.ones(1, 64, 64, dtype=torch.uint8)} for t in TARGETS]
    losses = new(pictures, masks)
    torch.stack([*losses.values()]).sum().backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(gates(new), before, strict=True)]
    assert any(moved) and len(insertions(new)) == number
    regard.save(new, tmp_path / "net.safetensors")
    loaded = regard.load(plain, tmp_path / "net.safetensors").eval()
    assert distance(loaded.backbone(x), new.eval().backbone(x)) == 0
    counted = [regard.measure(net, pictures[:1], latency=False) for net in (plain, new)]
    added = sum(p.numel() for p in regard.attention_parameters(new))
    assert counted[1].params - counted[0].params == added
    # Heads have as much to do as there are detections; the backbone has not.
    macs = [regard.measure(net.backbone, x, latency=False).macs for net in (plain, new)]
    assert macs[1] > macs[0]
    assert len(regard.explain(new, pictures[:1])) >= number


@pytest.mark.parametrize(
    "kind",
    [
        "lraspp_mobilenet_v3_large",
        pytest.param("deeplabv3_mobilenet_v3_large", marks=pytest.mark.slow),
        pytest.param("fcn_resnet50", marks=pytest.mark.slow),
    ],
)
def test_segmentation_of_torchvision(kind, tmp_path):
    """These return dictionaries."""
    make = getattr(torchvision.models.segmentation, kind)
    options = {"weights": None, "weights_backbone": None, "num_classes": 3}
    x = images(2)
    plain = settled(make(**options).eval(), images(4))
    new = regard.insert(plain, "cbam", "backbone.residual", reduction=8)
    assert distance(new(x), plain(x)) == 0 and same_old_entries(new, plain)
    wanted = awake(new)(x)
    assert distance(wanted, plain(x)) > 1e-3
    regard.save(new, tmp_path / "net.safetensors")
    assert distance(regard.load(plain, tmp_path / "net.safetensors").eval()(x), wanted) == 0
    macs = [regard.measure(net, x, latency=False).macs for net in (plain, new)]
    assert macs[1] > macs[0]


# blocks as those of mmseg and mmdetection


class Attend(nn.Module):
    """Adds its branch to an argument, as mmcv's layers do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor, hw: tuple[int, int], identity: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x)[:, None].chunk(3, -1)
        y = nn.functional.scaled_dot_product_attention(q, k, v)[:, 0]
        return (x if identity is None else identity) + self.drop(self.proj(y))


class Mix(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor, hw: tuple[int, int], identity: Tensor | None = None) -> Tensor:
        return (x if identity is None else identity) + self.layers(x)


class Layer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn, self.ffn = Attend(channels), Mix(channels)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        x = self.attn(self.norm1(x), hw, identity=x)
        return self.ffn(self.norm2(x), hw, identity=x)


@dataclass
class Features:
    levels: list[Tensor]
    name: str = "levels"


class Backbone(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(3, 16, 4, 4), nn.ModuleList([Layer(16), Layer(16)])
        self.down, self.kind = nn.Conv2d(16, 24, 2, 2), kind

    def forward(self, x: Tensor) -> Any:
        y = self.embed(x)
        h, w = y.shape[2:]
        z = y.flatten(2).transpose(1, 2)
        for block in self.blocks:
            z = block(z, (h, w))
        y = z.transpose(1, 2).unflatten(2, (h, w))
        levels = [y, self.down(y)]
        if self.kind == "dict":
            return OrderedDict(p2=levels[0], p3=levels[1])
        return Features(levels) if self.kind == "dataclass" else tuple(levels)


class Segmentor(nn.Module):
    def __init__(self, kind: str = "tuple") -> None:
        super().__init__()
        self.backbone = Backbone(kind)
        self.heads = nn.ModuleList([nn.Conv2d(16, 2, 1), nn.Conv2d(24, 2, 1)])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.backbone(x)
        levels = found.levels if isinstance(found, Features) else found
        levels = levels.values() if isinstance(levels, dict) else levels
        return {f"out{i}": h(y) for i, (h, y) in enumerate(zip(self.heads, levels, strict=True))}


def test_branches_whose_shortcut_is_an_argument():
    """mmseg's SegFormer, VideoMAE and DPT give the shortcut to the layer that adds it."""
    net = Segmentor().eval()
    found = [one.path for one in regard.plan(net, "simam")]
    wanted = [("attn.proj", "ffn.layers")] * 2
    assert found == [f"backbone.blocks.{i}.{end}" for i, ends in enumerate(wanted) for end in ends]
    blocks = [one.path for one in regard.plan(net, "simam", "block")]
    assert blocks == ["backbone.blocks.0", "backbone.blocks.1"]
    # Attention that gives zeros takes the branches away, and nothing else.
    new, x = regard.insert(net, Nothing, start="paper"), images()
    y = net.backbone.embed(x)
    assert distance(new.backbone(x)[0], y) < 1e-6 < distance(net.backbone(x)[0], y)


class Nothing(regard.Attention):
    """Gives zeros."""

    def attention(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        return a * z


@pytest.mark.parametrize("kind", ["tuple", "dict", "dataclass"])
def test_backbones_that_return_containers(kind):
    net, x = Segmentor(kind).eval(), images()
    new = regard.insert(net, "se", at="backbone", start="paper", reduction=4)
    assert [one.channels for one in insertions(new)] == [16, 24]
    assert type(new.backbone(x)) is type(net.backbone(x))
    assert min(distance(new(x)[name], net(x)[name]) for name in ("out0", "out1")) > 1e-3
    again = recipe(new).apply(net)
    again.load_state_dict(new.state_dict())
    assert distance(again(x), new(x)) == 0
