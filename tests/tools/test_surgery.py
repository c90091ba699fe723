"""Insertion and removal: nothing is lost, nothing changes, everything still works."""

from __future__ import annotations

import copy
import io
import logging
import pickle
import re
from collections import namedtuple

import pytest
import torch
from torch import Tensor, nn

import regard
from regard.core.attention import Attention
from regard.core.watching import path_of
from regard.surgery import insertions, plan

torchvision = pytest.importorskip("torchvision")
timm = pytest.importorskip("timm")
BUILDERS = {
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "torchvision resnet50": lambda: torchvision.models.resnet50(num_classes=10),
    "torchvision mobilenet_v3_large": lambda: torchvision.models.mobilenet_v3_large(num_classes=10),
    "torchvision convnext_tiny": lambda: torchvision.models.convnext_tiny(num_classes=10),
    "torchvision vit_b_16": lambda: torchvision.models.vit_b_16(image_size=64, num_classes=10),
    "torchvision swin_t": lambda: torchvision.models.swin_t(num_classes=10),
    "timm resnet50": lambda: timm.create_model("resnet50", num_classes=10),
    "timm efficientnet_b0": lambda: timm.create_model("efficientnet_b0", num_classes=10),
    "timm convnext_atto": lambda: timm.create_model("convnext_atto", num_classes=10),
    "timm vit_tiny_patch16_224": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=64, num_classes=10
    ),
    "timm mobilenetv4_conv_small": lambda: timm.create_model(
        "mobilenetv4_conv_small", num_classes=10
    ),
}


def trained(model: nn.Module) -> nn.Module:
    """Weights and statistics that no initialization gives: nothing is zero or one by luck."""
    generator = torch.Generator().manual_seed(0)

    def draw(x: Tensor) -> Tensor:
        return torch.rand(x.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() < 2 or parameter.std() == 0:
                parameter.copy_(0.5 + draw(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(0.5 + draw(buffer))
    return model.eval()


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32)


def assert_same_bits(x: Tensor, y: Tensor) -> None:
    assert x.shape == y.shape and torch.equal(bits(x), bits(y))


class Residual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.norm = nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(x))


class Net(nn.Module):
    """Two stages; the second block of the first is of the same class as a strided one would be."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(
            Residual(8), Residual(8), nn.Conv2d(8, 12, 3, 2, padding=1), Residual(12)
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Nothing(Attention):
    """No part of the catalog: what a user writes, answering with what the test wants."""

    axes = regard.Axes("b c *")

    def __init__(self, channels: int, answer: float = 1.0) -> None:
        super().__init__(c=channels)
        self.answer = answer

    def attention(self, x: Tensor) -> Tensor:
        return x.new_ones(())

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return torch.full_like(x, self.answer)


@pytest.fixture
def net() -> nn.Module:
    return trained(Net())


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 11, 7, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return trained(BUILDERS["torchvision resnet18"]())


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def se(model: nn.Module, at="residual", **options):
    return regard.insert(model, "se", at, reduction=2, **options)


def test_keys_survive_and_the_output_is_bit_equal(resnet, image):
    new = regard.insert(resnet, "se", example_input=image)
    assert_same_bits(new(image), resnet(image))
    assert new.state_dict().keys() > resnet.state_dict().keys()
    missing, unexpected = new.load_state_dict(resnet.state_dict(), strict=False)
    assert not unexpected and all(".attention." in name for name in missing)


def test_the_old_model_is_left_alone(net, x):
    net.body[0].train()
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    names = [name for name, _ in net.named_modules()]
    rng = torch.get_rng_state()
    plan(net, "se", reduction=2)
    assert torch.equal(torch.get_rng_state(), rng)
    new = se(net)
    assert [m.training for m in net.modules()] == modes
    assert [name for name, _ in net.named_modules()] == names
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not {id(p) for p in net.parameters()} & {id(p) for p in new.parameters()}
    assert new.body[0].norm.attention.training and not new.body[1].norm.attention.training


def test_the_paper_start_changes_the_output(net, x):
    new = se(net, start="paper")
    assert not torch.equal(new(x), net(x))
    assert not any(name.endswith("gamma") for name in new.state_dict())


def test_gamma_blends_output_and_attention(net, x):
    new = regard.insert(net, Nothing, at="stem", answer=3.0)
    y = net.stem(x)
    torch.nn.init.constant_(new.stem.attention.gamma, 0.25)
    torch.testing.assert_close(new.stem(x), y + 0.25 * (3.0 - y))


def test_no_gamma_where_the_mechanism_starts_as_identity(net, x):
    new = regard.insert(net, "non_local", at="stem")
    assert not insertions(new)[0].gated and new.stem.attention.gamma is None
    assert torch.equal(new(x), net(x))


@pytest.mark.parametrize("answer", [1.0, -1.0, 0.0, -0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_every_bit_survives_negative_zero_too(answer, dtype):
    net = nn.Sequential(nn.Conv2d(3, 3, 1)).to(dtype)
    new = regard.insert(net, Nothing, at="0", answer=answer)
    y = torch.tensor([0.0, -0.0, 1.5, -1.5, 1e-40, -1e30], dtype=dtype).reshape(1, 3, 1, 2)
    seen = new[0].attention(y)
    assert seen.dtype == dtype
    assert torch.equal(seen.view(torch.uint8), y.view(torch.uint8))


def test_channels_last_stays_channels_last(net, x):
    new = se(net)
    y = net.stem(x).contiguous(memory_format=torch.channels_last)
    seen = new.body[0].norm.attention(y)
    assert seen.is_contiguous(memory_format=torch.channels_last)
    new, last = new.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    old = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert_same_bits(new(last), old(last))


def test_the_parameters_take_the_type_of_the_place(net):
    new = se(net.double())
    assert {p.dtype for p in new.parameters()} == {torch.float64}


def test_autocast_keeps_the_type_of_the_place(net, x):
    new = se(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert new(x).dtype == net(x).dtype
        assert torch.equal(new(x), net(x))


def test_a_model_without_memory_is_possible():
    with torch.device("meta"):
        new = se(Net())
    assert all(p.is_meta for p in new.parameters())


def test_gamma_learns_first_and_then_the_mechanism(net, x):
    new = se(net).train()
    optimizer = torch.optim.SGD(regard.attention_parameters(new), lr=0.5)
    new.body[0].norm.attention.gamma.grad = None
    new(x).square().sum().backward()
    site = new.body[0].norm.attention
    assert site.gamma.grad.abs() > 0 and site.mechanism.squeeze.weight.grad.abs().max() == 0
    optimizer.step()
    new(x).square().sum().backward()
    assert site.mechanism.squeeze.weight.grad.abs().max() > 0


def test_attention_parameters_are_the_new_ones_alone(net):
    new = regard.replace(se(net), "sk", at="stem")
    found = {id(p) for p in regard.attention_parameters(new)}
    old = net.state_dict().keys()
    wanted = {id(p) for name, p in new.named_parameters() if path_of(name) not in old}
    assert found == wanted and found
    assert list(regard.attention_parameters(net)) == []


def test_the_same_seed_gives_the_same_model(net):
    def build() -> dict[str, Tensor]:
        torch.manual_seed(0)
        return se(net).state_dict()

    a, b = build(), build()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_mechanisms_stack_in_order(net, x):
    new = regard.insert(net, Nothing, at="stem", start="paper", answer=2.0)
    new = regard.insert(new, "simam", at="stem")
    new = regard.insert(new, Nothing, at="stem", start="paper", answer=5.0)
    assert [what.child for what in insertions(new)] == ["attention", "attention_2", "attention_3"]
    assert torch.equal(new.stem(x), torch.full_like(net.stem(x), 5.0))
    assert torch.equal(regard.remove(new).stem(x), net.stem(x))


def test_a_preset_finds_the_same_places_a_second_time(net):
    first = se(net)
    assert [w.path for w in plan(first, "cbam", reduction=2)] == [w.path for w in insertions(first)]


def test_a_taken_name_is_left_to_its_owner(net, x):
    net.stem.attention = "mine"
    net.stem.add_module("attention_2", nn.Identity())
    new = se(net, "stem")
    assert insertions(new)[0].child == "attention_3"
    assert new.stem.attention == "mine"
    assert_same_bits(regard.remove(new)(x), net(x))


def test_own_modules_are_no_places(net):
    new = regard.replace(se(net, "stem"), "sk", at="body.2")
    everything = plan(new, "simam", re.compile("stem|body"))
    assert not any("attention" in w.path or "mechanism" in w.path for w in everything)
    assert [w.path for w in everything[:2]] == ["stem", "body"]


def test_removal_is_bit_equal(net, x):
    new = regard.insert(se(net), "cbam", at="block", reduction=2)
    new = regard.replace(new, "sk", at="body.2")
    back = regard.remove(new)
    assert list(back.state_dict()) == list(net.state_dict())
    assert [*map(str, back.modules())] == [*map(str, net.modules())]
    assert not any(m._forward_hooks for m in back.modules())
    assert all(torch.equal(v, net.state_dict()[name]) for name, v in back.state_dict().items())
    assert_same_bits(back(x), net(x))
    assert len(insertions(new)) == 7 and not insertions(back)


def test_removal_at_some_places(net, x):
    new = se(net)
    left = regard.remove(new, "body.0.*")
    assert [w.path for w in insertions(left)] == ["body.1.norm", "body.3.norm"]
    with pytest.raises(ValueError, match=r"nothing was inserted at 'stem'; but at body\.0\.norm"):
        regard.remove(new, "stem")
    with pytest.raises(ValueError, match="Net: nothing was inserted"):
        regard.remove(net)


def test_removal_leaves_other_hooks(net, x):
    seen = []
    net.stem.register_forward_hook(lambda *_: seen.append(1))
    back = regard.remove(se(net, "stem"))
    back(x)
    assert len(back.stem._forward_hooks) == 1 and seen


def test_the_report_says_what_went_where(net, caplog):
    with caplog.at_level(logging.INFO, logger="regard"):
        new = se(net)
    planned = plan(net, "se", reduction=2)
    assert planned == insertions(new)
    assert [str(what) for what in planned] == [r.getMessage() for r in caplog.records[:-1]]
    assert caplog.messages[-1] == "275 parameters in all"
    first = planned[0]
    assert (first.path, first.child, first.mechanism) == (
        "body.0.norm",
        "attention",
        "squeeze_excitation",
    )
    assert (first.layout.axes, first.channels, first.gated) == ("b c h w", 8, True)
    assert sum(w.parameters for w in planned) == sum(
        p.numel() for p in regard.attention_parameters(new)
    )


# where


def test_presets_of_a_resnet(resnet, image):
    def places(at: str) -> list[str]:
        return [what.path for what in plan(resnet, "se", at, example_input=image)]

    blocks = [f"layer{stage}.{i}" for stage in (1, 2, 3, 4) for i in (0, 1)]
    assert places("residual") == [f"{name}.bn2" for name in blocks]
    assert places("block") == blocks
    assert places("stage") == ["layer1.1", "layer2.1", "layer3.1", "layer4.1"]


class Strided(Residual):
    """A block of stride 2, which has no shortcut to add."""

    def __init__(self, c: int, stride: int) -> None:
        super().__init__(c)
        self.conv.stride = (stride, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.stride == 1 else self.norm(self.conv(x))


def test_blocks_without_a_shortcut_count_as_blocks_of_their_class():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Strided(4, 1), Strided(4, 2), Strided(4, 1))
    assert [w.path for w in plan(net, "se", "block", reduction=2)] == ["1", "2", "3"]
    assert [w.path for w in plan(net, "se", "stage", reduction=2)] == ["1", "3"]
    assert [w.path for w in plan(net, "se", reduction=2)] == ["1.norm", "3.norm"]


class Gated(nn.Module):
    """A branch that ends in a gate of its own, beside a projected shortcut and a position bias."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 1)
        self.first, self.last = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.shortcut = nn.Conv2d(6, 8, 1)
        self.position = nn.Parameter(torch.randn(2, 6, 32, 32))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.position
        y = self.last(self.first(x).relu())
        y = y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        return self.shortcut(x) + y


def test_the_last_layer_is_one_that_all_of_the_branch_passes():
    x = torch.randn(2, 3, 32, 32)
    assert [w.path for w in plan(Gated(), "se", reduction=2, example_input=x)] == ["last"]
    with pytest.raises(
        ValueError, match=r"no block found for at='block'; try at='residual', or name the"
    ):
        plan(Gated(), "se", "block", reduction=2, example_input=x)


class Pyramid(nn.Module):
    """Adds two scales, as a feature pyramid does: no residual addition."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1)
        self.merge = Merge()

    def forward(self, x: Tensor) -> Tensor:
        low = self.low(x)
        return self.merge(low, self.high(low))


class Merge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lateral, self.top = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.lateral(low) + nn.functional.interpolate(self.top(high), low.shape[2:])


def test_adding_two_scales_is_no_residual_addition():
    with pytest.raises(ValueError, match="no residual block found"):
        plan(Pyramid(), "se", reduction=2, example_input=torch.randn(2, 3, 16, 16))


@pytest.mark.parametrize(
    ("at", "found"),
    [
        ("stem", ["stem"]),
        ("body.*.norm", ["body.0.norm", "body.1.norm", "body.3.norm"]),
        ("**.norm", ["body.0.norm", "body.1.norm", "body.3.norm"]),
        ("body.[!0].n?rm", ["body.1.norm", "body.3.norm"]),
        ("body.?", ["body.0", "body.1", "body.2", "body.3"]),
        (re.compile(r"1\.(conv|norm)$"), ["body.1.conv", "body.1.norm"]),
        (lambda name, module: getattr(module, "stride", 1) == (2, 2), ["body.2"]),
        ("body", ["body"]),
        ("body*", ["body"]),
    ],
)
def test_names_globs_expressions_and_callables(net, at, found):
    assert [what.path for what in plan(net, "se", at, reduction=2)] == found


class Sum(nn.ModuleDict):
    """A container that does more than handing on."""

    def forward(self, x: Tensor) -> Tensor:
        return sum(module(x) for module in self.values())


class Many(nn.Module):
    """One module of every kind that cannot carry attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.wider = nn.Conv2d(8, 12, 1)
        self.act = nn.ReLU()
        self.unused = nn.Conv2d(8, 8, 1)
        self.sum = Sum({"a": nn.Identity(), "b": nn.Identity()})
        self.pair = Pair()
        self.none = Nowhere()
        self.count = Count()
        self.lost = nn.Conv2d(12, 12, 1)
        self.turned = Turned()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.wider(self.act(self.conv(x))))
        self.none(x)
        self.lost(x)
        x = x + 0 * self.count(x)
        x = x + self.turned(x).sum()
        return self.pool(self.pair(self.sum(x)).first)


Both = namedtuple("Both", "size first second")


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Both:
        return Both(7, x, -x)


class Nowhere(nn.Module):
    def forward(self, x: Tensor) -> int:
        return len(x)


class Turned(nn.Module):
    """The products of all pairs of channels, which no layer reads."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return x @ x.transpose(1, 2)


class Count(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).long()


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        ("unused", "'unused': it did not run"),
        ("none", "'none': its output is not a tensor"),
        ("count", "'count': its output is torch.int64"),
        ("lost", "'lost': nothing reads what attention would change there"),
        ("turned", r"'turned': the axes of its output \(2, 12, 12\) cannot be told"),
        ("pool", r"'pool': its output \(2, 12\) has no axes"),
        ("conv", r"'conv': reduction \(16\) must not be larger than channels \(8\)"),
    ],
)
def test_what_cannot_carry_a_mechanism_is_refused_with_a_reason(at, reason):
    with pytest.raises(ValueError, match=f"SqueezeExcitation cannot be inserted at {reason}") as e:
        plan(Many(), "se", at)
    there = str(e.value).partition(". There are ")[2].split(", ")
    assert {"wider", "pair", "sum.a", "pool.0"} <= set(there) and at not in there


def test_the_first_tensor_of_a_tuple_is_seen():
    net = Many().eval()
    new = regard.insert(net, Nothing, at="pair", start="paper", answer=2.0)
    out = new.pair(torch.randn(2, 12, 3, 3))
    assert isinstance(out, Both) and out.size == 7
    assert (out.first == 2).all() and not (out.second == 2).any()


def test_a_place_that_does_not_exist_is_an_error_that_lists_what_does(net):
    with pytest.raises(ValueError, match=r"nothing matches at='body.0.nrm'; there are body.0.norm"):
        plan(net, "se", "body.0.nrm")
    with pytest.raises(ValueError, match="and the presets residual, block, stage"):
        plan(net, "se", "residuals")
    with pytest.raises(TypeError, match="at: expected a name"):
        plan(net, "se", 3)  # pyright: ignore[reportArgumentType]  # a wrong type is the test


def test_long_lists_are_cut(resnet, image):
    with pytest.raises(ValueError, match=r"… and \d\d more") as e:
        plan(resnet, "se", "layer9", example_input=image)
    assert str(e.value).count(", ") < 25


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(mechanism="sk"), ValueError, "SelectiveKernel is a convolution: use regard.replace"),
        (dict(mechanism="sqeeze_excitation"), ValueError, 'did you mean "squeeze_excitation"'),
        (dict(mechanism=nn.ReLU), TypeError, "expected a name or a Mechanism class"),
        (dict(mechanism="se", reductoin=2), TypeError, 'no option "reductoin"'),
        (dict(mechanism="se", dtype=torch.half), ValueError, "dtype: inferred from the model"),
        (dict(mechanism="se", start="zero"), ValueError, "start must be 'identity' or 'paper'"),
    ],
)
def test_what_cannot_be_meant_is_refused(net, arguments, error, message):
    with pytest.raises(error, match=message):
        regard.insert(net, **arguments)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_models_that_cannot_be_watched_are_refused(net):
    scripted = torch.jit.trace(net, torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="is compiled: insert attention first"):
        plan(torch.compile(net), "se")
    with pytest.raises(ValueError, match="is a TorchScript program: insert attention first"):
        plan(scripted, "se")
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module"):
        plan(lambda x: x, "se")
    with pytest.raises(ValueError, match="Linear: its input cannot be inferred"):
        plan(nn.Linear(3, 3), "se", "")
    with pytest.raises(ValueError, match="no usual size of image fits"):
        plan(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 7)), "se")


def test_the_input_may_be_a_tuple_or_keywords(x):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return self.net(x) * scale

    with pytest.raises(ValueError, match="pass example_input"):
        plan(Two(), "se")
    scale = torch.ones(())
    by_place = plan(Two(), "se", reduction=2, example_input=(x, scale))
    assert by_place == plan(Two(), "se", reduction=2, example_input={"scale": scale, "x": x})


# layouts


class Tokens(nn.Module):
    """Image to tokens of a 3 x 5 grid, two class tokens before them, and one that mixes tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 6, 2, 2)
        self.register_buffer("classes", torch.randn(1, 2, 6))
        self.norm = nn.LayerNorm(6)
        self.mix = nn.Linear(17, 17)
        self.last = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.classes.expand(len(x), -1, -1), x), 1)
        x = x + self.last(self.norm(x))
        return x + self.mix(x.mT).mT


class Frames(Attention):
    """Answers with where each position is, so that a wrong grid shows."""

    axes = regard.Axes("b c h w")

    def attention(self, x: Tensor) -> Tensor:
        rows, columns = torch.meshgrid(
            *(torch.arange(size, device=x.device) for size in x.shape[2:]), indexing="ij"
        )
        return 100.0 * rows + columns

    def combine(self, a: Tensor, x: Tensor) -> Tensor:
        return a.expand_as(x).clone()


def test_class_tokens_stay_and_the_others_form_the_grid_of_each_pass():
    net = Tokens()
    image = torch.randn(2, 3, 6, 10)
    new = regard.insert(net, Frames, at="last", start="paper", example_input=image)
    assert str(insertions(new)[0].layout) == "b n c (n = 2 + 3 x 5)"
    seen = []
    new.last.attention.register_forward_hook(lambda m, args, y: seen.append((args[0], y)))
    net.mix = new.mix = nn.Identity()  # it takes 17 tokens alone
    for height, width in ((6, 10), (10, 6), (2, 30)):  # fifteen tokens each
        new(torch.randn(2, 3, height, width))
        x, y = seen.pop()
        assert torch.equal(y[:, :2], x[:, :2])
        positions = ((i, j) for i in range(height // 2) for j in range(width // 2))
        wanted = torch.tensor([100.0 * row + column for row, column in positions])
        assert torch.equal(y[:, 2:, 0], wanted.expand(2, -1))
    with pytest.raises(ValueError, match="7 tokens do not fill the grid of 1 x 15"):
        new.last(torch.randn(2, 9, 6))
    with pytest.raises(ValueError, match="the grid of the tokens is unknown: run the whole"):
        copy.deepcopy(new).last(torch.randn(2, 9, 6))
    assert list(regard.remove(new).state_dict()) == list(net.state_dict())
    assert not any("_attended" in name for name, _ in regard.remove(new).named_modules())


def test_channels_are_followed_through_a_mixer():
    image = torch.randn(2, 3, 6, 10)
    found = plan(Tokens(), "se", "*", reduction=2, example_input=image)
    assert {w.path: str(w.layout) for w in found} == {
        "patch": "b c h w",
        "norm": "b n c (n = 2 + 3 x 5)",
        "mix": "b c n (n = 2 + 3 x 5)",
        "last": "b n c (n = 2 + 3 x 5)",
    }


def test_what_needs_no_grid_takes_other_tokens_without_one():
    """SE on windows that were the whole image when it was inserted."""
    new = regard.insert(
        Tokens(), "se", "last", start="paper", reduction=2, example_input=torch.randn(2, 3, 6, 10)
    )
    new.mix = nn.Identity()
    seen = []
    site = new.last.attention
    site.mechanism.register_forward_hook(lambda m, args, y: seen.append(args[0].shape[2:]))
    new(torch.randn(2, 3, 10, 6))
    tokens = torch.randn(2, 9, 6)
    wanted = site.mechanism(tokens[:, 2:].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(site(tokens)[:, 2:], wanted)
    assert seen == [(5, 3), (7,), (7,)]


def test_a_square_number_of_tokens_is_no_grid():
    net = nn.Sequential(nn.Linear(6, 6))
    tokens = torch.randn(2, 9, 6)
    assert plan(net, "se", "0", reduction=2, example_input=tokens)[0].layout.axes == "b l c"
    with pytest.raises(ValueError, match="'0': Coordinate: expected 4 axes"):
        plan(net, "coordinate", "0", example_input=tokens)
    new = regard.insert(net, "multi_head", "0", num_heads=2, example_input=tokens)
    assert torch.equal(new(tokens), net(tokens))
    queries = plan(Queries(), "se", "decode", reduction=2, example_input=torch.randn(2, 3, 8, 8))
    assert str(queries[0].layout) == "b n c"
    with pytest.raises(ValueError, match=r"its tokens \(b n c\) have no known grid"):
        plan(Queries(), "coordinate", "decode", example_input=torch.randn(2, 3, 8, 8))


class Queries(nn.Module):
    """Sixteen learned queries look at an image, as in a detector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 2, 2)
        self.queries = nn.Parameter(torch.randn(16, 32))
        self.decode = nn.TransformerDecoderLayer(32, 4, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        return self.decode(self.queries.expand(len(x), -1, -1), tokens)


class TokensFirst(nn.Module):
    """An encoder that takes its tokens first, as torch does by default."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 8, 8)
        self.encode = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.encode(self.conv(x).flatten(2).permute(2, 0, 1)).mean(0)


@pytest.mark.parametrize("name", ["multi_head", "simam", "se", "external_attention"])
def test_samples_do_not_see_one_another_where_tokens_come_first(name):
    net, x = TokensFirst().eval(), torch.rand(4, 3, 64, 64)
    new = regard.insert(net, name, at="encode", start="paper", example_input=x).eval()
    assert insertions(new)[0].layout.axes == "n b c"
    assert not torch.allclose(new(x), net(x))
    torch.testing.assert_close(new(x)[:1], new(x[:1]))


def test_an_input_whose_first_axis_is_not_the_batch_is_found_out():
    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return y + y.mean(0, keepdim=True)

    tokens = torch.randn(9, 2, 6)
    with pytest.raises(ValueError, match="depends on the others, so that axis 0 of its input"):
        plan(Mixes(), "se", "linear", reduction=2, example_input=tokens)
    found = plan(Mixes(), "se", "linear", layout="n b c", reduction=2, example_input=tokens)
    assert found[0].layout.axes == "n b c"
    encoder = nn.TransformerEncoderLayer(6, 2, 8).eval()
    assert plan(encoder, "se", "linear2", reduction=2, example_input=tokens)[0].layout.axes in (
        "n b c",
        "l b c",
    )


def test_a_layout_may_be_given(x):
    net = nn.Sequential(nn.Identity())
    with pytest.raises(ValueError, match=r"seem to be .b \? \?., either .b c n. or .b n c."):
        plan(net, "se", "0", reduction=2, example_input=x[:, :, 0])
    found = plan(net, "se", "0", layout="b l c", reduction=2, example_input=x[:, :, 0])
    assert (found[0].channels, found[0].layout.axes) == (7, "b l c")
    with pytest.raises(ValueError, match="layout: expected the names of all axes"):
        plan(net, "se", "0", layout="b x c", example_input=x)
    with pytest.raises(ValueError, match="layout='b l c' names 3 axes, and its output is"):
        plan(net, "se", "0", layout="b l c", example_input=x)


@pytest.mark.parametrize("name", ["multi_head", "external_attention"])
def test_mechanisms_of_tokens_read_a_grid(net, x, name):
    options = dict(num_heads=2) if name == "multi_head" else {}
    new = regard.insert(net, name, at="stem", start="paper", **options)
    site = new.stem.attention
    y = net.stem(x)
    wanted = site.mechanism(y.flatten(2).mT).mT.reshape(y.shape)
    assert torch.equal(new.stem(x), wanted)


def test_a_layout_with_channels_last_is_read_as_such():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mlp = nn.Conv2d(3, 8, 1), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.mlp(self.stem(x).permute(0, 2, 3, 1))

    new = regard.insert(Last(), "se", at="mlp", reduction=2, start="paper")
    assert insertions(new)[0].layout.axes == "b h w c"
    y = torch.randn(2, 5, 3, 8)
    seen = new.mlp.attention.mechanism(y.movedim(3, 1)).movedim(1, 3)
    assert torch.equal(new.mlp.attention(y), seen)


@pytest.mark.parametrize(("dims", "axes"), [(1, "b c l"), (3, "b c t h w")])
def test_signals_and_videos(dims, axes):
    conv = {1: nn.Conv1d, 3: nn.Conv3d}[dims](2, 8, 1)
    x = torch.randn(2, 2, 3, 5, 7)[(..., *[0] * (3 - dims))]
    new = regard.insert(nn.Sequential(conv), "se", "0", reduction=2, example_input=x)
    assert insertions(new)[0].layout.axes == axes
    assert torch.equal(new(x), conv(x))


# replacing


def test_a_replacement_reads_the_convolution_and_keeps_it(net, x):
    new = regard.replace(net, "sk", at="body.2")
    assert new(x).shape == net(x).shape and not torch.equal(new(x), net(x))
    assert new.body[2].mechanism.branches[0][0].stride == (2, 2)
    assert not any(key.startswith("body.2.weight") for key in new.state_dict())
    assert len(list(new.named_modules())) == len({name for name, _ in new.named_modules()})
    assert not any(module is new.body[2].replaced[0] for module in new.modules())
    back = regard.remove(pickle.loads(pickle.dumps(copy.deepcopy(new).double())))
    assert back.body[2].weight.dtype == torch.float64
    assert torch.equal(back.body[2].weight, net.body[2].weight.double())


def test_attention_and_replacement_at_the_same_place(net, x):
    first = se(regard.replace(net, "sk", at="body.2"), "body.2")
    second = regard.replace(se(net, "body.2"), "sk", at="body.2")
    for new in (first, second):
        assert {w.child for w in insertions(new)} == {"", "attention"}
        assert_same_bits(regard.remove(new)(x), net(x))
        assert [*map(str, regard.remove(new).modules())] == [*map(str, net.modules())]


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(3, 8, 3), r"its padding 0 does not center its kernel 3"),
        (nn.Conv2d(3, 8, 4, 4), r"its kernel is 4, and those of SelectiveKernel are \(3, 5\)"),
        (nn.Conv2d(3, 8, 1), r"its kernel is 1, and those"),
        (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), "its padding_mode is reflect"),
        (nn.ReLU(), "it is a ReLU"),
    ],
)
def test_a_convolution_that_cannot_be_honored_is_refused(conv, reason):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), conv)
    with pytest.raises(ValueError, match=f"SelectiveKernel cannot be inserted at '1': {reason}"):
        regard.replace(net, "sk", at="1")


def test_replacing_asks_for_a_convolution_both_ways(net):
    with pytest.raises(ValueError, match=r"SqueezeExcitation is a gate: use regard\.insert"):
        regard.replace(net, "se", at="stem")
    with pytest.raises(
        ValueError, match=r"nothing matches at='stm'; convolutions: stem, body\.0\.conv"
    ):
        regard.replace(net, "sk", at="stm")


# what still works


def test_copies_and_pickles_are_whole(net, x):
    new = regard.insert(se(net, "stem", start="paper"), "simam", "stem", start="paper")
    buffer = io.BytesIO()
    torch.save(new, buffer)
    buffer.seek(0)
    copies = [
        copy.deepcopy(new),
        pickle.loads(pickle.dumps(new)),
        torch.load(buffer, weights_only=False),
        copy.deepcopy(copy.deepcopy(new)),
    ]
    for other in copies:
        assert torch.equal(other(x), new(x))
        other.stem.attention.mechanism.excite.weight.data.zero_()  # the copy uses its own site
        assert not torch.equal(other(x), new(x))
        assert_same_bits(regard.remove(other)(x), net(x))
        assert insertions(other) == insertions(new)


def test_attention_can_be_watched_in_place(net, x):
    new = regard.insert(net, "cbam", at="block", reduction=2)
    seen = []
    for module in new.modules():
        if type(module).__name__ == "CBAM":
            module.tap.register_forward_hook(lambda m, args, a: seen.append(a))
    new(x)
    assert len(seen) == 3


def test_symbolic_tracing(net, x):
    for at in ("residual", "block"):
        traced = torch.fx.symbolic_trace(new := se(net, at, start="paper"))
        torch.testing.assert_close(traced(x), new(x))


def test_training_goes_on_with_batch_norm_in_the_mechanism(net, x):
    new = regard.insert(net, "external_attention", "stem", form="block").train()
    new(x).sum().backward()
    assert new.stem.attention.gamma.grad is not None


def test_compiled_in_one_graph(net, x):
    new = se(net, start="paper")
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(new, fullgraph=True, backend="eager")(x), new(x))


def test_timm_has_its_own_door(image):
    model = timm.create_model("resnet26", block_args=dict(attn_layer=regard.CBAM), num_classes=3)
    assert sum(isinstance(m, regard.CBAM) for m in model.modules()) == 8
    assert model(image).shape == (2, 3)


# the models people have


@pytest.fixture(scope="module", params=BUILDERS)
def model(request) -> nn.Module:
    torch.manual_seed(3)
    return trained(BUILDERS[request.param]())


@pytest.mark.slow
@pytest.mark.parametrize("at", ["residual", "block", "stage"])
def test_any_model_keeps_its_keys_and_its_output(model, image, at):
    new = regard.insert(model, "se", at, example_input=image)
    assert new.state_dict().keys() > model.state_dict().keys()
    with torch.no_grad():
        wanted = model(image)
        assert wanted.isfinite().all() and wanted.std() > 0
        assert_same_bits(new(image), wanted)
        assert_same_bits(regard.remove(new)(image), wanted)
        stacked = regard.insert(new, "cbam", at, example_input=image)
        assert len(insertions(stacked)) == 2 * len(insertions(new))
        assert_same_bits(stacked(image), wanted)
        assert_same_bits(regard.remove(stacked)(image), wanted)
    assert list(regard.remove(new).state_dict()) == list(model.state_dict())
    paper = regard.insert(model, "se", at, start="paper", example_input=image)
    unread = at == "stage" and type(model).__name__ == "VisionTransformer"  # the head is at token 0
    with torch.no_grad():
        assert torch.equal(paper(image), wanted) == unread


@pytest.mark.slow
def test_any_model_is_watched_without_an_example(model, image):
    found = [what.path for what in plan(model, "se")]
    assert found == [what.path for what in plan(model, "se", example_input=image)]


@pytest.mark.slow
def test_any_model_is_traced(model, image):
    new = regard.insert(model, "se", start="paper", example_input=image)
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(new)(image), new(image))


@pytest.mark.slow
def test_any_model_copies_pickles_compiles_and_trains(model, image):
    new = regard.insert(model, "se", start="paper", example_input=image)
    with torch.no_grad():
        wanted = new(image)
        assert_same_bits(copy.deepcopy(new)(image), wanted)
        assert_same_bits(pickle.loads(pickle.dumps(new))(image), wanted)
        torch._dynamo.reset()
        compiled = torch.compile(new, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(image), wanted, rtol=1e-3, atol=1e-3)
    new = regard.insert(model, "se", example_input=image).train()
    new(image).square().mean().backward()
    gammas = [p for name, p in new.named_parameters() if name.endswith("attention.gamma")]
    learning = [gamma.grad.abs().item() > 0 for gamma in gammas]
    # a class token no longer sees what the last block makes of the others
    assert learning and all(
        learning[:-2] if type(model).__name__ == "VisionTransformer" else learning
    )


@pytest.mark.slow
def test_any_model_exports(model, image):
    new = regard.insert(model, "se", start="paper", example_input=image)
    with torch.no_grad():
        exported = torch.export.export(new, (image,)).module()
        torch.testing.assert_close(exported(image), new(image), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_any_model_runs_in_onnxruntime(model, image, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    new = regard.insert(model, "se", start="paper", example_input=image)
    path = tmp_path / "model.onnx"
    torch.onnx.export(new, (image,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (got,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), new(image), rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_compiled_with_inductor(net, x):
    new = regard.insert(se(net, start="paper"), "cbam", "block", reduction=2)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(new, fullgraph=True)(x), new(x), rtol=1e-4, atol=1e-4)
