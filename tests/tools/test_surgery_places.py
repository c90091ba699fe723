"""Which modules and tensors insertion finds, and which axes they have."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regard
from regard.surgery import insertions, plan

timm = pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")


def images(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def places(net: nn.Module, at: str, **options: Any) -> list[str]:
    return [what.path for what in plan(net, "simam", at, **options)]


# several outputs


@dataclasses.dataclass
class Levels:
    low: Tensor
    high: Tensor
    name: str = "levels"


class Neck(nn.Module):
    """Returns two levels, in a container of the given kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 12, 1, 2)
        self.kind = kind

    def forward(self, x: Tensor):
        low, high = self.low(x), self.high(x)
        if self.kind == "dict":
            return OrderedDict(low=low, high=high)
        if self.kind == "dataclass":
            return Levels(low, high)
        if self.kind == "nested":
            return [low, {"more": (high, "text")}]
        return (low, high) if self.kind == "tuple" else [low, high]


class Detector(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.neck = Neck(kind)

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = self.neck(x)
        if self.neck.kind == "nested":
            return [levels[0], levels[1]["more"][0]]
        if self.neck.kind == "dataclass":
            return [levels.low, levels.high]
        return list(levels.values() if isinstance(levels, dict) else levels)


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "dataclass", "nested"])
def test_every_level_gets_attention_of_its_own(kind):
    net, x = Detector(kind).eval(), images(8, 8)
    new = regard.insert(net, "se", "neck", start="paper", reduction=2, example_input=x)
    assert [what.channels for what in insertions(new)] == [8, 12]
    for before, after in zip(net(x), new(x), strict=True):
        assert (before - after).abs().max() > 1e-3
    assert type(new.neck(x)) is type(net.neck(x))
    same = regard.insert(net, "se", "neck", reduction=2, example_input=x)
    assert all(torch.equal(a, b) for a, b in zip(same(x), net(x), strict=True))
    assert [*regard.remove(new).state_dict()] == [*net.state_dict()]


@pytest.mark.parametrize(
    ("kind", "chosen"), [("tuple", 1), ("dict", "high"), ("dataclass", "high")]
)
def test_outputs_may_be_chosen(kind, chosen):
    net, x = Detector(kind).eval(), images(8, 8)
    options: dict[str, Any] = {"start": "paper", "reduction": 2, "example_input": x}
    new = regard.insert(net, "se", "neck", outputs=[chosen], **options)
    assert str(insertions(new)[0]).startswith(f"squeeze_excitation after neck[{chosen!r}]: 12")
    assert torch.equal(new(x)[0], net(x)[0]) and not torch.equal(new(x)[1], net(x)[1])
    with pytest.raises(ValueError, match="it has no output 'p9'; outputs: "):
        regard.insert(net, "se", "neck", outputs=["p9"], **options)


def test_attention_weights_are_no_features():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.look = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y, weights = self.look(x, x, x)
            return y + weights.sum()

    found = plan(Net(), "simam", "look", example_input=torch.rand(2, 5, 6))
    assert [(what.output, what.channels) for what in found] == [((0,), 6)]


# several runs


def test_each_number_of_channels_of_a_shared_layer_gets_a_mechanism():
    net = torchvision.models.resnet.Bottleneck(16, 4).eval()
    net = nn.Sequential(nn.Conv2d(3, 16, 1), net, nn.Conv2d(16, 2, 1)).eval()
    new = regard.insert(net, "se", "1.relu", start="paper", reduction=2, example_input=images(8, 8))
    assert [(what.child, what.channels) for what in insertions(new)] == [
        ("attention", 4),
        ("attention_2", 16),
    ]
    ran = []
    for name in ("attention", "attention_2"):
        mechanism = new[1].relu._modules[name].mechanism
        mechanism.register_forward_hook(lambda m, args, y: ran.append(args[0].shape[1]))
    new(images(8, 8))
    assert ran == [4, 4, 16]


def test_some_runs_of_a_shared_layer():
    """The activation after the second convolution of each block, which has one for all."""
    net = torchvision.models.resnet50().eval()
    options: dict[str, Any] = {"start": "paper", "reduction": 4, "example_input": images(32, 32)}
    new = regard.insert(net, "se", "layer3.*.relu", runs=[1], **options).eval()
    assert [(w.path, w.channels, w.runs) for w in insertions(new)] == [
        (f"layer3.{i}.relu", 256, (1,)) for i in range(6)
    ]
    assert str(insertions(new)[0]).startswith("squeeze_excitation after layer3.0.relu, run 1: 256")
    assert insertions(new) == plan(net, "se", "layer3.*.relu", runs=[1], **options)
    block, x = new.layer3[1], torch.rand(2, 1024, 2, 2)
    old, attention = net.layer3[1], new.layer3[1].relu.attention
    y = old.bn2(old.conv2(old.bn1(old.conv1(x)).relu())).relu()
    wanted = (old.bn3(old.conv3(attention(y))) + x).relu()
    for _ in range(2):
        torch.testing.assert_close(block(x), wanted)
    block.relu(x)  # a run outside of a pass does not shift the next ones
    torch.testing.assert_close(copy.deepcopy(block)(x), wanted)
    assert new.state_dict().keys() > net.state_dict().keys()
    torch._dynamo.reset()
    torch.testing.assert_close(
        torch.compile(new, backend="eager", fullgraph=True)(images(32, 32)), new(images(32, 32))
    )
    back = regard.remove(new)
    assert [*map(str, back.modules())] == [*map(str, net.modules())]
    with pytest.raises(ValueError, match="runs: expected some of 0 to 2, got "):
        plan(net, "se", "layer3.0.relu", runs=[3], **options)
    shared = nn.Sequential(OrderedDict(a=nn.Sequential(), act=nn.ReLU()))
    shared.a.append(nn.Sequential(nn.Conv2d(3, 4, 1), shared.act))
    with pytest.raises(ValueError, match=r"runs: its runs are not in one pass through 'a\.0'"):
        plan(shared, "simam", "a.0.1", runs=[0], example_input=images(8, 8))


# axes


class Concat(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return torch.cat(xs, 1)


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.cat = nn.Conv2d(3, 32, 1), nn.Conv2d(3, 64, 1), Concat()

    def forward(self, x: Tensor) -> Tensor:
        return self.cat([self.a(x), self.b(x)])


@pytest.mark.parametrize("size", [(20, 20), (32, 40), (40, 32), (96, 32), (1, 32)])
def test_concatenated_channels_are_found_at_every_size(size):
    (found,) = plan(Joined(), "simam", "cat", example_input=images(*size))
    assert (found.channels, found.layout.axes) == (96, "b c h w")


class ViT(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.patch, self.how = nn.Conv2d(3, 16, 8, 8), how
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        z, token = self.patch(x).flatten(2).transpose(1, 2), self.token.expand(len(x), -1, -1)
        if self.how == "after":
            z = torch.cat((z, token), 1)
        elif self.how == "both":
            z = torch.cat((token, token, z, token), dim=1)
        elif self.how == "stack":
            z = torch.hstack((token, z))
        return self.block(z)


@pytest.mark.parametrize(
    ("how", "layout"),
    [
        ("none", "n = 3 x 5"),
        ("stack", "n = 1 + 3 x 5"),
        ("after", "n = 3 x 5 + 1"),
        ("both", "n = 2 + 3 x 5 + 1"),
    ],
)
def test_class_tokens_are_found_anywhere_and_left_alone(how, layout):
    net, x = ViT(how).eval(), images(24, 40)
    new = regard.insert(net, "coordinate", "block", start="paper", example_input=x).eval()
    (what,) = insertions(new)
    assert str(what.layout) == f"b n c ({layout})"
    before, after = what.layout.prefix, what.layout.suffix
    changed = (new(x) != net(x)).any(2)[0]
    assert not changed[:before].any() and not changed[len(changed) - after :].any()
    assert changed[before : len(changed) - after].all()


class Windows(nn.Module):
    """Attention in windows of 2 x 2, and back; or tokens that stay shuffled."""

    def __init__(self, back: bool) -> None:
        super().__init__()
        self.stem, self.look, self.back = nn.Conv2d(3, 8, 1), nn.Linear(8, 8), back
        self.last = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        x = x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        x = self.look(x)
        if self.back:
            x = x.view(b, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        else:
            x = x.reshape(b, h * w, c)
        return self.last(x)


def test_windows_are_followed_there_and_back():
    x = images(6, 10)
    found = plan(Windows(True), "simam", "*", example_input=x)
    assert [str(what.layout) for what in found] == ["b c h w", "b n c (n = 2 x 2)", "b h w c"]
    found = plan(Windows(False), "simam", "last", example_input=x)
    assert str(found[0].layout) == "b n c"
    with pytest.raises(ValueError, match=r"Coordinate needs \(b c h w\), and its tokens \(b n c\)"):
        plan(Windows(False), "coordinate", "last", example_input=x)


@pytest.mark.parametrize(
    ("arrange", "layout"),
    [
        (lambda x: x.gather(1, x.argsort(1)), "b n c"),
        (lambda x: x[:, torch.arange(14, -1, -1)], "b n c"),
        (lambda x: x.flip(1), "b n c"),
        (lambda x: x.sort(1).values, "b n c"),
        (lambda x: x[:, ::2], "b n c"),
        (lambda x: x.softmax(1), "b n c (n = 3 x 5)"),
        (lambda x: x @ torch.ones(8, 8), "b n c (n = 3 x 5)"),
        (lambda x: torch.einsum("bnc,cd->bnd", x, torch.ones(8, 8)), "b n c (n = 3 x 5)"),
        (lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x, "b n c (n = 3 x 5)"),
        (lambda x: torch.cat((x[:, :4], x[:, 4:]), 1), "b n c (n = 3 x 5)"),
        (lambda x: x.transpose(1, 2).unflatten(2, (3, 5)).flip(3), "b c h w"),
        (lambda x: x.view(-1, 3, 5, 8).transpose(1, 2).reshape(-1, 15, 8), "b n c"),
        (lambda x: x.unsqueeze(1).expand(-1, 2, -1, -1).flatten(0, 1), "b n c (n = 3 x 5)"),
    ],
)
def test_the_order_of_tokens_is_followed(arrange, layout):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.place = nn.Conv2d(3, 8, 1), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.place(arrange(self.stem(x).flatten(2).transpose(1, 2))) + 0

    assert str(plan(Net(), "simam", "place", example_input=images(3, 5))[0].layout) == layout


class Patches(nn.Module):
    """Tokens at the same place of all patches of a feature, as in MobileViT."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.mlp = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(self.stem(x), (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1)
        x = self.mlp(x.reshape(b * 4, h * w // 4, c))
        x = x.reshape(b, 2, 2, h // 2, w // 2, c).permute(0, 5, 3, 1, 4, 2)
        return x.reshape(b, c, h, w)


@pytest.mark.parametrize("size", [(8, 12), (12, 8), (7, 9)])
def test_a_grid_of_patches_is_noted_at_every_size(size):
    net = Patches().eval()
    new = regard.insert(net, "coordinate", at="mlp", example_input=images(8, 8), start="paper")
    seen = []
    new.mlp.attention.mechanism.register_forward_pre_hook(lambda _, x: seen.append(x[0].shape))
    new(images(*size))
    assert [tuple(shape) for shape in seen] == [(8, 16, -(-size[0] // 2), -(-size[1] // 2))]
    torch.testing.assert_close(
        regard.insert(net, "coordinate", at="mlp", example_input=images(8, 8))(images(*size)),
        net(images(*size)),
        rtol=0,
        atol=0,
    )


def test_two_grids_may_be_read_from_one_module():
    class Both(Patches):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x + self.tokens(x.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(x)
            b, c, h, w = x.shape
            x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1)
            return self.mlp(x.reshape(b * 4, h * w // 4, c))

    net = Both().eval()
    new = regard.insert(net, "coordinate", at="tokens", example_input=images(8, 8))
    new = regard.insert(new, "coordinate", at="mlp", example_input=images(8, 8))
    for size in ((8, 12), (12, 8)):
        assert torch.equal(new(images(*size)), net(images(*size)))
    assert list(regard.remove(new).state_dict()) == list(net.state_dict())


class Untraced(torch.fx.Tracer):
    """Looks into everything except the layer itself."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Block) or super().is_leaf_module(m, module_qualified_name)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(x)


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, 4)
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.embed(x).flatten(2).transpose(1, 2))


def test_a_traced_network_notes_the_grid_for_modules_that_were_not_traced():
    new = regard.insert(Embedded(), "coordinate", at="block.mlp", example_input=images(16, 16))
    with torch.no_grad():
        new.block.mlp.attention.gamma.fill_(1.0)
    traced = torch.fx.GraphModule(new, Untraced().trace(new))
    traced.graph.eliminate_dead_code()
    traced.recompile()
    for size in ((8, 20), (20, 8)):
        want = new(images(*size))
        new(images(16, 4))  # another grid was noted last
        torch.testing.assert_close(traced(images(*size)), want)


class Skips(nn.Module):
    """Takes two features, and returns one that it computes and the one that it was given."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.reads = reads

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [self.conv(x[0] + x[1] if self.reads else x[0]), x[1]]


@pytest.mark.parametrize("reads", [True, False])
def test_an_output_that_a_module_takes_and_does_not_read_gets_no_attention(reads):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.one, self.two = Skips(True), Skips(reads)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.two(self.one([x, x]))[0]

    found = plan(Net(), "simam", at="one", example_input=images(8, 8))
    assert [one.output for one in found] == ([(0,), (1,)] if reads else [(0,)])


def test_the_strides_of_a_place_are_kept():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2).view(x.shape)

    x = images(16, 16)[:1]
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), nn.Conv2d(8, 8, 3)).eval()
    for mechanism in ("simam", "coordinate", "multi_head"):
        options: dict[str, Any] = {"num_heads": 2} if mechanism == "multi_head" else {}
        new = regard.insert(net, mechanism, "1", example_input=x, **options)
        assert new[:2](x).stride() == net[:2](x).stride()
        assert torch.equal(new(x), net(x))


def test_a_rank_is_given_to_mechanisms_that_have_one():
    net = nn.Sequential(nn.Conv3d(3, 16, 1))
    for mechanism in ("non_local", "cbam"):
        options: dict[str, Any] = {"reduction": 4} if mechanism == "cbam" else {}
        x = torch.rand(1, 3, 4, 5, 6)
        new = regard.insert(net, mechanism, "0", start="paper", example_input=x, **options)
        assert new[0].attention.mechanism.arguments["dims"] == 3
        assert new(x).shape == net(x).shape


# blocks


def vgg() -> nn.Module:
    def stage(c_in: int, c: int) -> list[nn.Module]:
        return [nn.Conv2d(c_in, c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*stage(3, 8), *stage(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.units = nn.ModuleList(Unit(8 + 4 * i) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for unit in self.units:
            x = torch.cat((x, unit(x)), 1)
        return x


class Unit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x).relu())


@pytest.mark.parametrize(
    ("net", "at", "found"),
    [
        (vgg, "block", ["1", "4"]),
        (vgg, "stage", ["1", "4"]),
        (Dense, "block", ["units.0", "units.1", "units.2"]),
        (Dense, "stage", ["units.2"]),
    ],
)
def test_blocks_of_networks_without_shortcuts(net, at, found):
    assert places(net(), at, example_input=images(16, 16)) == found
    with pytest.raises(
        ValueError, match="no residual block found for at='residual'; try at='block'"
    ):
        places(net(), "residual", example_input=images(16, 16))


def test_a_preset_may_be_limited_to_a_part():
    backbone = torchvision.models.resnet18()
    net = nn.Sequential(
        OrderedDict(
            backbone=nn.Sequential(*list(backbone.children())[:-2]),
            decoder=torchvision.models.resnet.BasicBlock(512, 512),
        )
    )
    x = images(32, 32)
    blocks = places(net, "block", example_input=x)
    inside = places(net, "backbone.block", example_input=x)
    assert len(blocks) == 9 and inside == [name for name in blocks if name != "decoder"]
    assert places(net, "backbone.stage", example_input=x)[-1] == "backbone.7.1"
    with pytest.raises(ValueError, match=r"no block found in 'decoder' for at='decoder\.block'"):
        places(net, "decoder.block", example_input=x)


def test_frozen_norms_are_norms():
    frozen = torchvision.ops.misc.FrozenBatchNorm2d
    x = images(32, 32)
    found = [
        places(torchvision.models.resnet18(norm_layer=norm).eval(), "residual", example_input=x)
        for norm in (nn.BatchNorm2d, frozen)
    ]
    assert found[0] == found[1] and found[0][0] == "layer1.0.bn2"


def test_attention_that_only_a_class_token_would_read_is_left_out_with_a_warning():
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3)
    with pytest.warns(UserWarning, match=r"left out at 'blocks\.2': nothing reads what attention"):
        assert places(vit, "block") == ["blocks.0", "blocks.1"]
    with pytest.warns(UserWarning, match=r"left out at 'blocks\.2'"):
        assert places(vit, "blocks.[12]") == ["blocks.1"]
    with pytest.raises(ValueError, match="nothing reads what attention would change there"):
        places(vit, "blocks.2")
    pooled = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=3, global_pool="avg"
    )
    assert places(pooled, "block") == ["blocks.0", "blocks.1", "blocks.2"]


# the model is left as it was


def test_planning_leaves_observers_and_tensors_alone():
    observed = torch.ao.quantization.MinMaxObserver()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), observed, nn.BatchNorm2d(4))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    plan(net, "simam", "2", example_input=images(8, 8))
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert observed.min_val.shape == before["1.min_val"].shape
    weight = net[0].weight  # fails where a weak reference to the tensor is left
    torch.utils.swap_tensors(weight, nn.Parameter(torch.zeros_like(weight)))


def test_planning_leaves_the_random_state_alone_where_it_runs_twice():
    net, before = nn.Sequential(nn.Linear(6, 6)), torch.get_rng_state()
    plan(net, "simam", "0", example_input=torch.ones(2, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_is_found_whose_channels_the_first_convolution_does_not_read():
    net = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 8, 1))
    assert [what.channels for what in plan(net, "simam", "1")] == [8]
