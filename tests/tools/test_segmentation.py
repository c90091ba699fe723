"""Segmentation: every head, the network around it, published counts, and training."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

import regard
from cases import Case, claims_of
from claims import Variant
from regard.core.attention import Mechanism
from regard.measurement import count
from regard.networks.detection import MaskRCNN
from regard.networks.heads import HEADS, AttentionHead, HeadSpec, conv_norm_relu, head, head_spec
from regard.networks.segmentation import (
    WEIGHTS,
    Segmenter,
    expectation_maximization_neck,
    segmentation_loss,
    segmenter,
)
from regard.networks.table import records
from regard.surgery import insertions

EXAMPLE = Path(__file__).parents[2] / "examples" / "segmentation_digits.py"
SIZE = 2, 32, 11, 7  # of features
SMALL = {
    "emanet": {"num_bases": 6},
    "encnet": {"num_codewords": 6},
    "ocnet_asp": {"dilations": (1, 2), "scale": 1},
    "psanet": {"mask_size": (9, 7)},
    "spnet": {"bins": (5, 3)},
}
# Parameters that start at zero, so that those before them have no gradient in the first step.
ZERO = {
    "danet": r"(position|channel)\.gamma",
    "ccnet": r"criss_cross\.gamma",
    "gcnet": r"attention\.add\.3\..*",
    "nonlocal": r"attention\.norm\..*",
    "ocnet": r"attention\.relations\.\d\.out\..*",
    "ocnet_asp": r"attention\.context\.relations\.\d\.out\..*",
    "ocnet_pyramid": r"attention\.relations\.\d\.out\..*",
}


class Encoder(nn.Module):
    """Returns two features, at 1/2 and 1/4 of the resolution."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 16, 3, 2, 1)
        self.second = nn.Conv2d(16, 32, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        first = self.first(x).relu()
        return [first, self.second(first).relu()]


class Last(nn.Module):
    """Returns only the last of several features."""

    def forward(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        return features[-1:]


def small(name: str, classes: int = 5) -> nn.Module:
    return head(name, 32, classes, dropout=0.0, **SMALL.get(name, {}))


def as_tuple(y) -> tuple[torch.Tensor, ...]:
    return y if isinstance(y, tuple) else (y,)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("training", [False, True])
def test_a_head_scores_every_position(name: str, training: bool) -> None:
    outputs = as_tuple(small(name).train(training)(torch.randn(SIZE)))
    assert len(outputs) == len(HEADS[name].outputs)
    for output, y in zip(HEADS[name].outputs, outputs, strict=True):
        assert y.shape == ((2, 5) if output == "presence" else (2, 5, 11, 7)), output
        assert torch.isfinite(y).all()


def zero_grad(part: Mechanism) -> Iterable[str]:
    """Return the parameters that, by the claims about the class and arguments, do not learn."""
    claims = claims_of(type(part).__module__.rpartition(".")[2])[type(part).__name__]
    arguments = part.arguments.items()
    variant = next((v for v in claims.variants if v.changed.items() <= arguments), Variant())
    return Case(type(part), claims, variant).zero_grad


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_of_a_head_learns(name: str) -> None:
    module = small(name).eval()  # in training a norm cancels the bias before it
    for path, parameter in module.named_parameters():
        if re.fullmatch(ZERO.get(name, ""), path):
            nn.init.uniform_(parameter, 0.5, 1.0)
    x = torch.randn(SIZE, requires_grad=True)
    torch.stack([y.square().sum() for y in as_tuple(module(x))]).sum().backward()
    constant = {
        f"{path}.{glob}".lstrip(".")
        for path, part in module.named_modules()
        if isinstance(part, Mechanism)
        for glob in zero_grad(part)
    }
    for path, parameter in module.named_parameters():
        known = any(re.fullmatch(glob.replace("*", ".*"), path) for glob in constant)
        learns = parameter.grad is not None and parameter.grad.abs().max() > 1e-6
        assert learns != known, path
    assert x.grad is not None and x.grad.abs().max() > 0


# fcn has no attention, and the gates of spnet are in the encoder.
@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("fcn", "spnet")])
def test_the_attention_of_a_head_has_a_heat_map(name: str) -> None:
    found = regard.explain(small(name), torch.randn(SIZE))
    # The codewords of EncNet attend to a flat sequence of positions.
    maps = [a if a.grid else replace(a, grid=(11, 7)) for a in found.values()]
    heat = next(a for a in maps if a.spatial).heat()
    assert heat.shape[0] == 2 and heat.dim() == 3
    assert heat.shape[1:] == ((6, 4) if name == "psanet" else (11, 7))  # at half the resolution


@pytest.mark.parametrize("name", HEADS)
def test_every_head_has_the_mechanism_of_its_name(name: str) -> None:
    parts = [part for part in small(name).modules() if isinstance(part, Mechanism)]
    assert bool(parts) == bool(HEADS[name].mechanism)
    key = HEADS[name].mechanism.partition(".")[0]
    assert not key or any(type(part).__module__.endswith(f".{key}") for part in parts)


def test_a_head_has_the_layers_of_its_spec() -> None:
    spec = HeadSpec(
        "simam", kernel_size=1, in_width=4, out_width=4, repeat=2, after_width=3, concat=True
    )
    module = AttentionHead(16, 5, spec)
    sizes = [tuple(m.weight.shape) for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert sizes == [(8, 16, 1, 1), (6, 8, 3, 3), (6, 22, 3, 3), (5, 6, 1, 1)]
    assert len(module.attention) == 2
    assert module(torch.randn(2, 16, 5, 3)).shape == (2, 5, 5, 3)
    assert isinstance(conv_norm_relu(3, 4)[2], nn.ReLU)


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ValueError, match='no head "dannet"; did you mean "danet"'):
        head_spec("dannet")
    with pytest.raises(ValueError, match='no head "zzz"; there are ccnet, danet'):
        head("zzz", 64, 5)
    with pytest.raises(ValueError, match=r"eighths \(8\) must divide in_channels \(12\)"):
        head("emanet", 12, 5)
    with pytest.raises(ValueError, match="num_classes must be a positive integer, got 0"):
        head("emanet", 16, 0)
    with pytest.raises(ValueError, match="dropout"):
        head("emanet", 16, 2, dropout=1.0)
    with pytest.raises(TypeError, match='no option "num_base"; did you mean "num_bases"'):
        head("emanet", 16, 2, num_base=3)
    with pytest.raises(TypeError, match="a head without attention has no option num_bases"):
        head("fcn", 16, 2, num_bases=3)
    with pytest.raises(ValueError, match="output_names must start with 'scores'"):
        Segmenter(Encoder(), small("emanet"), output_names=("position",))
    x = torch.randn(2, 3, 32, 32)
    with pytest.raises(ValueError, match="the head must return scores, presence, got 1 outputs"):
        Segmenter(Encoder(), small("emanet"), output_names=("scores", "presence"))(x)
    with pytest.raises(ValueError, match="auxiliary needs an encoder that returns two features"):
        Segmenter(nn.Sequential(Encoder(), Last()), small("emanet"), small("fcn"))(x)
    with pytest.raises(ValueError, match="no weight for the output mystery"):
        segmentation_loss({"mystery": torch.zeros(1, 2)}, torch.zeros(1, 3, 3).long())


@pytest.mark.parametrize("name", HEADS)
def test_a_segmenter_scores_every_pixel(name: str) -> None:
    auxiliary = head("fcn", 16, 5)
    net = Segmenter(Encoder(), small(name), auxiliary, output_names=HEADS[name].outputs)
    x, labels = torch.randn(2, 3, 45, 27), torch.randint(5, (2, 45, 27))
    outputs = net.train()(x)
    assert list(outputs) == [*HEADS[name].outputs, "auxiliary"]
    assert all(y.shape[2:] in ((45, 27), ()) for y in outputs.values())
    segmentation_loss(outputs, labels).backward()
    assert net.encoder.first.weight.grad.abs().max() > 0
    assert net.eval()(x).shape == (2, 5, 45, 27)
    assert net.forward_features(x).shape == (2, 32, 12, 7)


@pytest.mark.parametrize("name", HEADS)
def test_every_head_learns(name: str) -> None:
    net = Segmenter(Encoder(), small(name), output_names=HEADS[name].outputs)
    x = torch.randn(4, 3, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
    labels = x.argmax(1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        loss = segmentation_loss({"scores": net(x)["scores"]}, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_auxiliary_head_gets_the_second_to_last_features_in_training_only() -> None:
    net = Segmenter(Encoder(), small("gcnet"), head("fcn", 16, 5))
    seen = []
    assert net.auxiliary is not None
    net.auxiliary.register_forward_hook(lambda module, args, y: seen.append(args[0].shape))
    net.eval()(torch.randn(2, 3, 24, 16))
    assert not seen
    net.train()(torch.randn(2, 3, 24, 16))
    assert seen == [(2, 16, 12, 8)]


def test_corners_are_aligned_on_request() -> None:
    x, module = torch.randn(2, 3, 24, 16), small("gcnet")
    encoder = Encoder()
    default, aligned = (
        Segmenter(encoder, module, align_corners=corners).eval()(x) for corners in (False, True)
    )
    coarse = module(encoder(x)[-1])
    assert torch.equal(aligned[..., 0, 0], coarse[..., 0, 0])
    assert torch.allclose(aligned[..., -1, -1], coarse[..., -1, -1])
    assert not torch.allclose(aligned, default)


def test_the_loss_is_the_weighted_sum() -> None:
    scores, labels = torch.randn(2, 4, 3, 3), torch.randint(4, (2, 3, 3))
    labels[0, 0] = 255
    plain = cross_entropy(scores, labels, ignore_index=255)
    assert torch.isclose(segmentation_loss({"scores": scores}, labels), plain)
    both = {"scores": scores, "auxiliary": scores}
    assert torch.isclose(segmentation_loss(both, labels), 1.4 * plain)
    assert torch.isclose(segmentation_loss(both, labels, weights={"auxiliary": 0}), plain)
    elsewhere = labels.masked_fill(labels == 255, 9)
    assert torch.isclose(segmentation_loss({"scores": scores}, elsewhere, ignore=9), plain)
    presence = torch.full((2, 4), 9.0)
    every = torch.arange(4).expand(2, 4).reshape(2, 2, 2)  # every class in every image
    loss = segmentation_loss({"presence": presence}, every)
    assert torch.isclose(loss, 0.2 * torch.tensor(-9.0).exp().log1p())
    assert WEIGHTS["scores"] == 1


RECORDED = [
    ("DANet ResNet(D)-50-d8, 19 classes", 19, "danet", "resnet50s", False, (480, 480)),
    ("DANet ResNet-101-d8, ADE20K (MMSeg)", 150, "danet", "resnet101c", True, (512, 512)),
    ("CCNet-R50-d8 Cityscapes (MMSeg)", 19, "ccnet", "resnet50c", True, (1024, 2048)),
    ("DANet-R50-d8 Cityscapes (MMSeg)", 19, "danet", "resnet50c", True, (1024, 2048)),
]


@pytest.mark.parametrize(
    ("record", "classes", "name", "backbone", "auxiliary", "size"), RECORDED, ids=lambda x: str(x)
)
def test_the_counts_of_segmenters_are_the_published_ones(
    record: str, classes: int, name: str, backbone: str, auxiliary: bool, size: tuple[int, int]
) -> None:
    published = records()[record]
    with torch.device("meta"):
        net = segmenter(classes, head=name, backbone=backbone, auxiliary=auxiliary)
        x = torch.empty(1, 3, *size)
    assert sum(p.numel() for p in net.parameters()) == published["params_exact_verified"]
    macs = count(net, x).macs
    if published["macs_exact_conv_matmul"] is not None:
        assert macs == published["macs_exact_conv_matmul"]
    else:  # 180.37 G, with norms and ReLUs, without the products of attention
        n = size[0] * size[1] // 64
        attention = n * n * (64 + 512) + 2 * n * 512**2
        assert (macs - attention) / 180.37e9 == pytest.approx(1, abs=0.003)


def test_the_published_macs_of_danet_do_not_include_its_attention_products() -> None:
    with torch.device("meta"):
        net = segmenter(150, backbone="resnet101c")
        macs = count(net, torch.empty(1, 3, 512, 2048)).macs
    n = 64 * 256
    attention = n * n * (64 + 512) + 2 * n * 512**2
    assert (macs - attention) / 1119e9 == pytest.approx(1, abs=0.01)


def test_the_counts_of_emanets_neck_are_the_published_ones() -> None:
    published = records()["EMANet head increment (c=512)"]
    with torch.device("meta"):
        neck = expectation_maximization_neck()
        x = torch.empty(1, 2048, 65, 65)
    trainable = sum(p.numel() for p in neck.parameters() if p.requires_grad)
    # The bases move without gradients, and none reaches the convolution before them.
    assert (trainable, sum(p.numel() for p in neck.parameters())) == (
        9_964_032 - (512 * 512 + 512),
        published["params_exact_verified"],
    )
    assert count(neck, x).macs == published["macs_exact_conv_matmul"]


def test_the_neck_of_emanet_updates_its_bases_without_gradients() -> None:
    neck = expectation_maximization_neck(32)
    before = neck[1].bases.clone()
    neck.train()(torch.randn(2, 32, 5, 5)).sum().backward()
    assert not torch.equal(neck[1].bases, before)
    assert neck[1].bases.grad is None
    assert "1.bases" in neck.state_dict()


@pytest.mark.parametrize(("stride", "side"), [(8, 8), (16, 4), (32, 2)])
def test_the_encoder_is_dilated(stride: int, side: int) -> None:
    with torch.device("meta"):
        net = segmenter(5, 2, head="gcnet", backbone="resnet18", output_stride=stride).eval()
        x = torch.empty(1, 2, 64, 64)
    assert net.forward_features(x).shape == (1, 512, side, side)
    assert net(x).shape == (1, 5, 64, 64)


def test_strip_pooling_is_inserted_into_the_encoder() -> None:
    net = regard.network("spnet_resnet50", device="meta")
    paths = [i.path for i in insertions(net)]
    blocks = ["layer1.2", "layer2.3", "layer3.5", "layer4.0", "layer4.1", "layer4.2"]
    assert paths == [f"encoder.{block}.act2" for block in blocks]


def test_the_counts_of_mask_rcnn_are_the_published_ones() -> None:
    published = records()["Mask R-CNN R50-FPN + GC (c3-c5, r=16)"]
    with torch.device("meta"):
        net, plain = MaskRCNN(), MaskRCNN(mechanism="")
        x = torch.empty(1, 3, 800, 1333)
    assert sum(p.numel() for p in net.parameters()) == published["params_exact_verified"]
    assert sum(p.numel() for p in plain.parameters()) == 44_400_693
    added = insertions(net)
    assert len(added) == 13 and not any(i.gated for i in added)
    assert count(net, x).macs / 279.6e9 == pytest.approx(1, abs=0.05)
    assert set(net.forward_features(x)) == {"0", "1", "2", "3", "pool"}


@pytest.mark.slow
def test_mask_rcnn_detects_and_is_trainable() -> None:
    net = MaskRCNN(3, 2, at="layer4.2.bn3")
    net.detector.transform.min_size = (64,)
    x = torch.rand(2, 64, 64)
    target = {
        "boxes": torch.tensor([[8.0, 8.0, 40.0, 48.0]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, 64, 64, dtype=torch.uint8),
    }
    losses = net.train()([x], [target])
    torch.stack([*losses.values()]).sum().backward()
    assert net.detector.backbone.body.conv1.weight.grad.abs().max() > 0
    assert set(net.eval()([x])[0]) == {"boxes", "labels", "scores", "masks"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> dict[str, float]:
        monkeypatch.setattr(sys, "argv", [EXAMPLE.stem, *map(str, arguments), "--threads", "1"])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
        lines = re.findall(r"^(\w+) +[\d,]+ +([\d.]+)%", capsys.readouterr().out, re.M)
        return {name: float(share) / 100 for name, share in lines}

    return run


def test_the_example_runs_every_head_and_draws_a_picture(run, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    reached = run("--head", "all", "--steps", 2, "--scenes", 8, "--picture", picture)
    assert list(reached) == list(HEADS)
    assert all(share < 0.2 for share in reached.values()), "two steps teach nothing"
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 500
        assert len(drawn.convert("L").getcolors(256) or ()) > 50


def test_the_seed_decides_everything() -> None:
    example = runpy.run_path(str(EXAMPLE))
    images, answers = example["digits"]()

    def trained(name: str, seed: int, steps: int) -> torch.Tensor:
        net = example["network"](name, seed)
        example["train"](net, images, answers, steps=steps, seed=seed)
        return net.encoder.stem[0].weight

    assert torch.equal(trained("emanet", 0, 2), trained("emanet", 0, 2))
    assert not torch.equal(trained("emanet", 0, 2), trained("emanet", 1, 2))
    assert torch.equal(trained("emanet", 0, 0), trained("danet", 0, 0)), (
        "all networks start with the same encoder"
    )


def test_the_pixels_of_digits_are_labeled() -> None:
    example = runpy.run_path(str(EXAMPLE))
    images, answers = example["digits"]()
    random = torch.Generator().manual_seed(0)
    canvases, labels = example["scenes"](images, answers, 64, random)
    assert canvases.shape == (64, 1, 64, 64) and labels.shape == (64, 64, 64)
    assert labels.unique().tolist() == list(range(11))
    inside, outside = canvases[:, 0][labels > 0].mean(), canvases[:, 0][labels == 0].mean()
    assert inside > 3 * outside, "digits are bright"
    assert (canvases[:, 0][labels == 0] > 0.5).float().mean() > 0.01, "some clutter is bright too"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["danet", "emanet", "spnet"])
def test_the_example_learns(run, name: str) -> None:
    """The background alone has a mean IoU of 0.08."""
    assert run("--head", name, "--steps", 300, "--scenes", 128)[name] > 0.3
