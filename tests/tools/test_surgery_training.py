"""Training attention in a frozen model, then all of it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import regard

timm = pytest.importorskip("timm")


@pytest.fixture
def plain() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=3)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def steps(net: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(regard.parameter_groups(net, 0.1, weight_decay=0.01))
    for _ in range(2):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "copied", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_frozen_model_is_removed_bit_for_bit(plain, x, copied):
    plain.conv1.requires_grad_(False)
    wanted = copy.deepcopy(plain.state_dict())
    net = copied(regard.freeze(regard.insert(plain, "cbam", reduction=4, example_input=x)))
    before = [p.detach().clone() for p in regard.attention_parameters(net)]
    steps(net.train(), x)
    assert any(
        not torch.equal(p, old)
        for p, old in zip(regard.attention_parameters(net), before, strict=True)
    )
    assert any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d)), "its own"
    back = regard.remove(regard.unfreeze(net))
    assert all(torch.equal(value, wanted[name]) for name, value in back.state_dict().items())
    flags = [p.requires_grad for p in plain.parameters()]
    assert [p.requires_grad for p in back.parameters()] == flags and not all(flags)
    assert not any("train" in vars(m) or "_frozen_by_regard" in vars(m) for m in back.modules())
    assert all(m.training for m in back.train().modules())


def test_what_is_frozen_learns_again(plain, x):
    net = regard.unfreeze(regard.freeze(regard.insert(plain, "se", reduction=4, example_input=x)))
    before = copy.deepcopy(plain.state_dict())
    steps(net.train(), x)
    after = net.state_dict()
    assert not any(
        torch.equal(after[name], before[name]) for name in ("bn1.running_mean", "fc.bias")
    )


def test_nothing_to_train_is_refused(plain):
    with pytest.raises(ValueError, match="ResNet: nothing was inserted"):
        regard.freeze(plain)


def test_every_parameter_is_in_one_group_and_gates_do_not_decay(plain, x):
    net = regard.insert(plain, "cbam", reduction=4, example_input=x)
    groups = regard.parameter_groups(net, 1e-3, attention_lr=1e-2, weight_decay=0.05)
    grouped = [id(p) for group in groups for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(net.parameters()))
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert (decays[id(parameter)] > 0) == (parameter.dim() > 1), name
        assert (rates[id(parameter)] == 1e-2) == (".attention." in name), name
    regard.freeze(net)
    left = regard.parameter_groups(net, 1e-3)
    assert [group["name"] for group in left] == ["attention", "attention, no decay"]


def test_layers_of_timm_keep_their_depth():
    """timm finds the depth of a layer by its name."""
    from timm.optim import param_groups_layer_decay

    x = torch.rand(2, 3, 32, 32)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=3)
    net = regard.insert(vit, "cbam", at="blocks.[0-9]", example_input=x)

    def depths(model: nn.Module) -> dict[int, float]:
        groups = param_groups_layer_decay(model, layer_decay=0.5)
        return {id(p): group["lr_scale"] for group in groups for p in group["params"]}

    plain, found = depths(vit), depths(net)
    theirs = {name: plain[id(p)] for name, p in vit.named_parameters()}
    for name, parameter in net.named_parameters():
        block = ".".join(name.split(".")[:2])
        wanted = theirs.get(name.replace("._attended", ""), theirs.get(f"{block}.norm1.weight"))
        assert found[id(parameter)] == wanted, name
