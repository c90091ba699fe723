"""Other libraries' modules become ours where they are equal, and are left with a reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import regard

timm = pytest.importorskip("timm")
ops = pytest.importorskip("torchvision.ops")
layers = pytest.importorskip("timm.layers")
IMAGE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("gate", "key"),
    [
        (lambda: layers.SEModule(16, rd_channels=4), "squeeze_excitation"),
        (lambda: ops.SqueezeExcitation(16, 4), "squeeze_excitation"),
        (lambda: layers.EffectiveSEModule(16), "effective_se"),
        (lambda: layers.EcaModule(16), "eca"),
        (lambda: layers.cbam.CbamModule(16, rd_channels=4), "cbam"),
        (lambda: layers.GlobalContext(16, rd_channels=4), "global_context"),
        (lambda: layers.coord_attn.CoordAttn(16, rd_channels=8), "coordinate"),
    ],
)
def test_equal_modules_become_ours_with_their_weights(gate, key):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), gate(), nn.ReLU()).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    new = regard.adopt(net)
    assert regard.show(key).name == type(new[1]).__name__
    torch.testing.assert_close(new(IMAGE), net(IMAGE))
    assert list(regard.explain(new, IMAGE))  # it was a gate without any map to see
    assert type(net[1]).__module__.split(".")[0] != "regard"
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


def test_a_whole_model_keeps_its_output_and_modes():
    net = timm.create_model("seresnet18", num_classes=3)
    new = regard.adopt(net, example_input=IMAGE)
    assert new.training and all(a.training for a in new.modules())
    torch.testing.assert_close(new.eval()(IMAGE), net.eval()(IMAGE))
    assert len(regard.explain(new, IMAGE)) == 8


def test_what_is_not_equal_is_left_with_the_reason():
    hard = ops.SqueezeExcitation(16, 4, scale_activation=nn.Hardsigmoid)
    with pytest.raises(
        ValueError,
        match=r"1: torchvision:SqueezeExcitation is squeeze_excitation: "
        r"its outputs differ by",
    ):
        regard.adopt(nn.Sequential(nn.Conv2d(3, 16, 3), hard))
    with pytest.raises(ValueError, match="not the same, because it reads one average"):
        light = layers.cbam.LightCbamModule(16, rd_channels=4)
        regard.adopt(nn.Sequential(nn.Conv2d(3, 16, 3), light))
    with pytest.raises(ValueError, match="ResNet has no attention of another library"):
        regard.adopt(timm.create_model("resnet10t"))


def test_classes_of_the_same_name_elsewhere_are_none_of_ours():
    class SEModule(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(ValueError, match="Sequential has no attention of another library"):
        regard.adopt(nn.Sequential(nn.Conv2d(3, 16, 3), SEModule()))
