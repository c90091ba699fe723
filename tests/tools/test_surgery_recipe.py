"""The insertions of a model as data, and files that hold them beside the weights."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import regard
from regard.surgery import Recipe, insertions, plan, recipe

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")


def image(*size: int) -> Tensor:
    return torch.rand(2, 3, *(size or (32, 32)), generator=torch.Generator().manual_seed(0))


def randomized(net: nn.Module) -> nn.Module:
    for p in regard.attention_parameters(net):
        nn.init.normal_(p, std=0.3)
    return net.eval()


def resnet() -> nn.Module:
    return timm.create_model("resnet10t", num_classes=3).eval()


def vit() -> nn.Module:
    options = {"img_size": 64, "patch_size": 8, "depth": 2, "dynamic_img_size": True}
    return timm.create_model("vit_tiny_patch16_224", global_pool="avg", num_classes=3, **options)


def bottlenecks() -> nn.Module:
    net = torchvision.models.resnet.Bottleneck(16, 4)
    return nn.Sequential(nn.Conv2d(3, 16, 3), net, nn.Conv2d(16, 2, 1)).eval()


class Neck(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 12, 1, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"low": self.low(x), "high": self.high(x)}


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neck = Neck()

    def forward(self, x: Tensor) -> list[Tensor]:
        return [*self.neck(x).values()]


def twice(net: nn.Module) -> nn.Module:
    """Two mechanisms at one place, of which the first was removed, and one for another place."""
    net = regard.insert(net, "se", at="layer1.0.bn2", reduction=4, example_input=image())
    net = regard.insert(net, "simam", at="layer1.0.bn2", start="paper", example_input=image())
    net.layer1[0].bn2.release("attention")
    return regard.insert(net, "cbam", at="layer2", reduction=4, example_input=image())


CASES = {
    "several": (resnet, twice),
    "replaced": (
        resnet,
        lambda net: regard.insert(
            regard.replace(net, "selective_kernel", at="layer1.0.conv1", example_input=image()),
            "se",
            at="layer1.0.conv1",
            reduction=4,
            example_input=image(),
        ),
    ),
    "tokens": (
        vit,
        lambda net: regard.insert(net, "coordinate", at="blocks.*", example_input=image(64, 64)),
    ),
    "runs": (
        bottlenecks,
        lambda net: regard.insert(net, "eca", at="1.relu", runs=[1], example_input=image()),
    ),
    "shared": (
        bottlenecks,
        lambda net: regard.insert(net, "se", at="1.relu", reduction=2, example_input=image()),
    ),
    "levels": (
        Detector,
        lambda net: regard.insert(net, "se", at="neck", reduction=2, example_input=image()),
    ),
    "whole": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).double(),
        lambda net: regard.insert(net, "simam", at="", example_input=image().double()),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_host_and_a_file_give_the_same_model(case, tmp_path):
    make, change = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last block of a ViT is left out
        new = randomized(change(make().eval()))
    dtype = next(new.parameters()).dtype
    regard.save(new, tmp_path / "net.safetensors")
    host = make().eval()
    before = {name: x.clone() for name, x in host.state_dict().items()}
    loaded = regard.load(host, tmp_path / "net.safetensors").eval()
    assert insertions(loaded) == insertions(new) and recipe(loaded) == recipe(new)
    assert [*loaded.state_dict()] == [*new.state_dict()]
    sizes = [(64, 64), (32, 128)] if case == "tokens" else [(32, 32), (40, 24)]
    for size in sizes:
        x = image(*size).to(dtype)
        got, wanted, plain = loaded(x), new(x), host(x)
        for a, b, c in zip(*map(flat, (got, wanted, plain)), strict=True):
            assert torch.equal(a, b) and (b - c).abs().max() > 1e-6
    assert not insertions(host) and all(
        torch.equal(x, before[name]) for name, x in host.state_dict().items()
    )
    back = regard.remove(loaded)
    assert back.state_dict().keys() == host.state_dict().keys()
    again = regard.load(new, tmp_path / "net.safetensors")
    assert recipe(again) == recipe(new)


def flat(y) -> list[Tensor]:
    return list(y) if isinstance(y, list) else [y]


def test_the_file_is_an_ordinary_one(tmp_path):
    new = regard.insert(resnet(), "se", reduction=4, example_input=image())
    regard.save(new, tmp_path / "net.safetensors", {"epoch": "3"})
    assert load_file(tmp_path / "net.safetensors").keys() == new.state_dict().keys()
    with safe_open(tmp_path / "net.safetensors", "pt") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "pt" and metadata["epoch"] == "3"
    data = json.loads(metadata["regard"])
    assert data["model"] == "ResNet" and len(data["insertions"]) == 4
    assert data["insertions"][0] == {
        "path": "layer1.0.bn2",
        "child": "attention",
        "mechanism": "squeeze_excitation",
        "arguments": {"channels": 64, "reduction": 4},
        "start": "identity",
        "layout": {"axes": "b c h w", "channels": 64, "prefix": 0, "suffix": 0, "grid": []},
    }


def test_what_differs_is_a_table(tmp_path):
    file = tmp_path / "net.safetensors"
    net = resnet()
    regard.save(regard.insert(net, "se", reduction=4, example_input=image()), file)
    other = timm.create_model("resnet10t", num_classes=5)
    with pytest.raises(
        ValueError, match=r"does not fit ResNet:\nentry +in the file +in the model"
    ) as e:
        regard.load(other, file)
    assert [line.split() for line in str(e.value).splitlines()[2:]] == [
        ["fc.bias", "(3,)", "(5,)"],
        ["fc.weight", "(3,", "512)", "(5,", "512)"],
    ]
    with pytest.raises(
        ValueError, match="VisionTransformer lacks places of the recipe, which is of a"
    ) as e:
        regard.load(vit(), file)
    assert len(str(e.value).splitlines()) == 2 + 4
    attended = regard.insert(net, "se", reduction=8, example_input=image())
    with pytest.raises(ValueError, match="are others:\nmodule ") as e:
        regard.load(attended, file)
    assert "reduction=4) after layer1.0.bn2" in str(e.value) and "reduction=8" in str(e.value)
    with pytest.raises(ValueError, match="ResNet has insertions already"):
        recipe(attended).apply(attended)
    save_file(net.state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match=r"has no recipe: regard\.save writes one"):
        regard.load(net, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="ResNet: nothing was inserted"):
        regard.save(net, tmp_path / "nothing.safetensors")


class Scaled(regard.Attention):
    """A mechanism of a user's own."""

    def __init__(self, channels: int, *, factor: object = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def attention(self, z: Tensor) -> Tensor:
        return torch.full_like(z, float(self.factor))  # pyright: ignore[reportArgumentType]

    def combine(self, a: Tensor, z: Tensor) -> Tensor:
        return a * z


def test_a_class_of_ones_own_is_passed_to_load(tmp_path):
    host = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    new = regard.insert(host, Scaled, at="0", start="paper", factor=3.0)
    regard.save(new, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match='no mechanism "Scaled"'):
        regard.load(host, tmp_path / "x.safetensors")
    loaded = regard.load(host, tmp_path / "x.safetensors", mechanisms=[Scaled])
    assert torch.equal(loaded(image()), new(image()))
    odd = regard.insert(host, Scaled, at="0", start="paper", factor=torch.ones(1))
    with pytest.raises(TypeError, match="Scaled: factor is a Tensor, which a recipe cannot hold"):
        recipe(odd).to_json()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"format": 2, "insertions": []}, "has format 2, and this version of regard reads 1"),
        ({"layers": []}, "expected a recipe of regard, got "),
        ({"format": 1, "insertions": [{"path": "0"}]}, "expected an insertion of a recipe"),
    ],
)
def test_other_data_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(data)


def test_in_place_on_the_meta_device():
    """As libraries build a model before they load its weights."""
    new = regard.insert(resnet(), "cbam", reduction=4, example_input=image())
    with torch.device("meta"):
        host = timm.create_model("resnet10t", num_classes=3)
    assert recipe(new).apply(host, inplace=True) is host
    assert all(x.is_meta for x in host.state_dict().values())
    assert recipe(host) == recipe(new)
    whole = regard.insert(nn.Sequential(nn.Conv2d(3, 8, 3)), "simam", at="")
    with pytest.raises(ValueError, match="as a whole cannot be inserted in place"):
        recipe(whole).apply(regard.remove(whole), inplace=True)


def test_a_reset_starts_anew():
    net = randomized(regard.insert(resnet(), "se", reduction=4, example_input=image()))
    place = net.layer1[0].bn2
    place.host.weight.data.fill_(3.0)
    place.reset_parameters()
    assert not place.attention.gamma.any() and (place.host.weight == 1).all()
    assert place.attention.mechanism.squeeze.weight.abs().max() > 0


# places where it does not fit


def test_unfit_places_are_one_table_or_are_left_out():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 32, 3), nn.Flatten(), nn.Linear(32 * 36, 4)
    )
    x = image(10, 10)
    with pytest.raises(
        ValueError, match=r"cannot be inserted at 3 of 4 modules:\nmodule +rea"
    ) as e:
        plan(net, "se", "*", example_input=x)
    text = str(e.value)
    assert "skip='unfit' leaves these out" in text
    rows = dict(line.split("  ", 1) for line in text.splitlines()[2:-1])
    assert rows.keys() == {"0", "2", "3"} and "must not be larger than channels (8)" in rows["0"]
    with pytest.warns(UserWarning, match="SqueezeExcitation is left out at 3 of 4 modules:\nmod"):
        found = plan(net, "se", "*", skip="unfit", example_input=x)
    assert [one.path for one in found] == ["1"] and found.skipped.keys() == rows.keys()
    assert "left out\n" in repr(found) and "channels (8)" in repr(found)
    with pytest.warns(UserWarning, match="left out"):
        new = regard.insert(net, "se", at="*", skip="unfit", example_input=x)
    assert torch.equal(new(x), net(x)) and len(insertions(new)) == 1
    with pytest.raises(ValueError, match="cannot be inserted at 2 of 2 modules"):
        plan(net, "se", "[23]", skip="unfit", example_input=x)
    with pytest.raises(ValueError, match="skip must be None or 'unfit', got 'all'"):
        plan(net, "se", "*", skip="all", example_input=x)  # pyright: ignore[reportArgumentType]


def test_convolutions_that_cannot_be_replaced_are_left_out():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 2, stride=2))
    with pytest.warns(UserWarning, match="SelectiveKernel is left out at '1': its kernel is 2"):
        new = regard.replace(net, "selective_kernel", at="*", skip="unfit")
    assert [one.path for one in insertions(new)] == ["0"]
