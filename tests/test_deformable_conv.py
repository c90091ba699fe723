"""The deformable convolution in torch alone is torchvision's: values and all gradients."""

from __future__ import annotations

import subprocess
import sys
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

import regard
from cases import randomize
from closeness import assert_same
from regard import DeformableConv, measurement
from regard.mechanisms import deformable_conv

# torch's own convolution says so.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
GEOMETRIES = [  # kernel, stride, padding, dilation
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 2), (2, 3), (0, 1), (1, 1)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
    ((2, 3), (1, 2), (2, 3), (2, 1)),
    ((3, 3), (1, 1), (2, 2), (2, 2)),
]


def deform_by_torchvision(
    x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor, *how: tuple
) -> Tensor:
    ops = pytest.importorskip("torchvision.ops")
    mask = None if mask is None else mask.flatten(1, 2)
    return ops.deform_conv2d(x, offset.flatten(1, 3), weight, bias, *how, mask)


def with_gradients(function, tensors, how):
    leaves = [t if t is None else t.clone().requires_grad_() for t in tensors]
    y = function(*leaves, *how)
    random = torch.Generator().manual_seed(2)
    cotangent = torch.randn(y.shape, dtype=y.dtype, generator=random)
    return y, *torch.autograd.grad(y, [t for t in leaves if t is not None], cotangent)


@pytest.mark.parametrize("where", ["random", "zero", "whole", "far"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("groups", "parts"), list(product((1, 2, 3, 12), (1, 3, 4))))
@pytest.mark.parametrize("how", GEOMETRIES)
def test_torch_alone_gives_what_torchvision_gives(how, groups, parts, masked, where):
    kernel, *how = how
    x = torch.randn(2, 12, 7, 9, dtype=torch.float64)
    weight = torch.randn(24, 12 // groups, *kernel, dtype=torch.float64)
    size = conv2d(x[:, :1], weight[:1, :1], None, *how).shape[2:]
    offset = 2 * torch.randn(2, parts, kernel[0] * kernel[1], 2, *size, dtype=torch.float64)
    if where != "random":  # where the kinks are, inside and on the border; and where nothing is
        offset = {"zero": 0 * offset, "whole": offset.round(), "far": 1e20 * offset}[where]
    mask = torch.randn(*offset.shape[:3], *size, dtype=torch.float64) if masked else None
    tensors = x, offset, mask, weight, torch.randn(24, dtype=torch.float64)
    want = with_gradients(deform_by_torchvision, tensors, how)
    got = with_gradients(deformable_conv.deform_by_gathering, tensors, how)
    names = (
        ("x", "offset", "mask", "weight", "bias") if masked else ("x", "offset", "weight", "bias")
    )
    for name, ours, theirs in zip(("y", *names), got, want, strict=True):
        assert_same(ours, theirs, name)


@pytest.mark.parametrize("modulator", ["sigmoid", "doubled", None])
def test_a_machine_without_torchvision_gives_the_same(modulator, monkeypatch):
    module = randomize(DeformableConv(6, modulator=modulator, offset_groups=2)).double()
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    want = module(x)
    monkeypatch.setattr(deformable_conv, "_kernel", lambda: None)
    assert_same(module(x), want)


def test_torchvision_is_not_imported_before_it_is_needed():
    code = "import sys, torch, regard; regard.DeformableConv(4); assert 'torchvision' not in {0}"
    subprocess.run([sys.executable, "-c", code.format("sys.modules")], check=True)


@pytest.mark.parametrize(("modulator", "part"), [("sigmoid", 0.5), ("doubled", 1.0), (None, 1.0)])
def test_a_new_one_is_a_plain_convolution_or_half_of_it(modulator, part):
    how = {"kernel_size": 4, "padding": "same", "bias": False}
    plain = nn.Conv2d(6, 8, dtype=torch.float64, **how)
    module = DeformableConv(6, 8, modulator=modulator, dtype=torch.float64, **how)
    module.conv.load_state_dict(plain.state_dict())
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        assert_same(module(x), part * plain(x))


def test_the_weights_of_torchvision_fit():
    ops = pytest.importorskip("torchvision.ops")
    theirs = ops.DeformConv2d(6, 8, 3, 2, 1, groups=2).double()
    ours = randomize(DeformableConv(6, 8, stride=2, groups=2)).double()
    ours.conv.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 7, 9, dtype=torch.float64)
    offset, modulator = ours.attention(x)
    assert_same(ours(x), theirs(x, offset.flatten(1, 3), modulator.flatten(1, 2)))


def test_numbers_that_are_none_break_nothing():
    x, weight = torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3)
    offset = torch.full((1, 1, 9, 2, 5, 5), torch.nan)
    offset[..., 0, 0] = torch.inf
    how = (1, 1), (1, 1), (1, 1)
    y = deformable_conv.deform_by_gathering(x, offset, None, weight, None, *how)
    assert y.isnan().all()


def test_it_stands_where_convolutions_stood():
    """With whatever they had: an even kernel, a dilation, groups, a stride, no bias."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 4, padding="same"),
        nn.Conv2d(8, 8, (3, 5), 2, (1, 4), dilation=(1, 2), groups=8, bias=False),
        nn.Conv2d(8, 6, 1, padding="valid"),
    )
    new = regard.replace(net, "deformable_conv", "*", modulator="doubled")
    x = torch.randn(2, 3, 11, 7)
    for layer, old in zip(new, net, strict=True):
        layer.mechanism.conv.load_state_dict(old.state_dict())
    assert_same(new(x), net(x), dtype=torch.float32)
    assert_same(regard.remove(new)(x), net(x))


def test_its_work_is_counted_on_both_ways(monkeypatch):
    module, x = DeformableConv(6, 8), torch.randn(2, 6, 7, 9)
    macs = 2 * 7 * 9 * 9 * 6 * (27 + 8)
    assert measurement.count(module, x).macs == macs
    monkeypatch.setattr(deformable_conv, "_kernel", lambda: None)
    assert measurement.count(module, x).macs == macs
