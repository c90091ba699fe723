"""What takes two features, a bag or a pyramid, or returns another shape: masks, sources, places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle, unfold

import regard
from cases import Case, cases, randomize
from closeness import assert_same
from regard.factory import load_reference

APART = ("pair", "pool", "levels", "upsampler")
OKTAY = "ozan-oktay/Attention-Gated-Networks"


def examples(*kinds: str) -> list[Any]:
    """The example of each mechanism of these kinds."""
    chosen = [c for c in cases() if c.cls.card.kind in kinds and not c.changed]
    return [pytest.param(case, id=case.key) for case in chosen]


@pytest.mark.parametrize("case", examples(*APART))
def test_what_no_place_can_take_is_refused_in_one_sentence(case: Case) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU())
    x = torch.randn(2, 3, 8, 8)
    for put in (regard.insert, regard.replace):
        with pytest.raises(ValueError, match=rf"^{case.cls.__name__} (takes|returns) .*[^.]$"):
            put(model, case.cls, at="0", example_input=x)


SCORES = {
    "concatenation_softmax": lambda s: s.softmax(-1),
    "concatenation_sigmoid": lambda s: s.sigmoid(),
    "concatenation_mean": lambda s: s / s.sum(-1, keepdim=True),
    "concatenation_mean_flow": lambda s: (
        (s - s.amin(-1, keepdim=True)) / (s - s.amin(-1, keepdim=True)).sum(-1, keepdim=True)
    ),
    "concatenation_range_normalise": lambda s: (
        (s - s.amin(-1, keepdim=True)) / (s.amax(-1, keepdim=True) - s.amin(-1, keepdim=True))
    ),
}


@pytest.mark.parametrize("mode", SCORES)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("out", ["norm", "conv", "none"])
def test_gate_for_classification_is_loaded(mode: str, dims: int, out: str) -> None:
    """Written out with layers under the names of the authors' code."""
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    layers = {
        "theta": conv(6, 5, 2, 2, bias=False),
        "phi": conv(4, 5, 2, 2, bias=False),
        "psi": conv(5, 1, 1),
    }
    whole = {"norm": lambda: nn.Sequential(conv(6, 6, 1), norm(6)), "conv": lambda: conv(6, 6, 1)}
    if out in whole:
        layers["W"] = whole[out]()
    net: Any = randomize(nn.ModuleDict(layers).double().eval())
    kwargs: dict[str, Any] = dict(in_channels=6, gating_channels=4, inter_channels=5, mode=mode)
    kwargs |= dict(sub_sample_factor=(2,) * dims, bn_layer=out == "norm", use_W=out != "none")
    kwargs["nonlinearity1"] = None if dims == 2 else "relu"
    source = f"{OKTAY}:GridAttentionBlock{dims}D_TORR"
    ours = load_reference("attention_gate", source, kwargs, net.state_dict()).eval()
    x = torch.randn(2, 6, *(9, 7, 4)[:dims], dtype=torch.float64)
    guide = torch.randn(2, 4, *(5, 6, 7)[:dims], dtype=torch.float64)

    def resized(t: Tensor, like: Tensor) -> Tensor:
        return interpolate(t, like.shape[2:], mode="bilinear" if dims == 2 else "trilinear")

    f = net["theta"](x)
    f = f + resized(net["phi"](guide), f)
    s = net["psi"](f if dims == 2 else f.relu())
    y = x * resized(SCORES[mode](s.flatten(2)).reshape(s.shape), x)
    assert_same(ours(x, guide), net["W"](y) if out in whole else y)


def test_gate_of_most_ports_is_loaded() -> None:
    parts = {"W_g": (8, 5), "W_x": (6, 5), "psi": (5, 1)}
    layers = {n: nn.Sequential(nn.Conv2d(*c, 1), nn.BatchNorm2d(c[1])) for n, c in parts.items()}
    net: Any = randomize(nn.ModuleDict(layers).double().eval())
    kwargs = dict(F_g=8, F_l=6, F_int=5)
    source = "LeeJunHyun/Image_Segmentation:Attention_block"
    ours = load_reference("attention_gate", source, kwargs, net.state_dict()).eval()
    x, guide = (torch.randn(2, c, 9, 7, dtype=torch.float64) for c in (6, 8))
    assert_same(
        ours(x, guide), x * net["psi"]((net["W_g"](guide) + net["W_x"](x)).relu()).sigmoid()
    )


def test_masked_positions_of_levels_have_no_value() -> None:
    """What they hold changes nothing, and a mask that fits no position is refused."""
    attention = randomize(regard.MultiScaleDeformable(8, 2, num_levels=2).double())
    query, points = torch.randn(2, 5, 8), torch.rand(2, 5, 2, 2)
    levels = [torch.randn(2, 8, 7, 5), torch.randn(2, 8, 4, 3)]
    query, points, *levels = (t.double() for t in (query, points, *levels))
    mask = torch.ones(2, 7 * 5 + 4 * 3, dtype=torch.bool)
    mask[:, 3:30] = False
    want = attention(query, points, *levels, mask=mask)
    levels[0] = torch.where(mask[:, None, :35].unflatten(2, (7, 5)), levels[0], 100.0)
    assert_same(attention(query, points, *levels, mask=mask), want)
    for bad, error in ((mask[:, 1:], ValueError), (mask.long(), TypeError)):
        with pytest.raises(error, match=r"^MultiScaleDeformable: mask: expected "):
            attention(query, points, *levels, mask=bad)
    with pytest.raises(ValueError, match=r"^MultiScaleDeformable: expected 2 levels, got 1$"):
        attention(query, points, levels[0])
    with pytest.raises(ValueError, match=r"^MultiScaleDeformable: points: expected axis"):
        attention(query, torch.rand(2, 5, 2, 3).double(), *levels)


def test_levels_are_traced_within_a_model() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = randomize(regard.MultiScaleDeformable(8, 2, num_levels=1))

        def forward(self, query: Tensor, points: Tensor, level: Tensor) -> Tensor:
            return self.attention(query, points, level)

    model = Model()
    inputs = torch.randn(2, 5, 8), torch.rand(2, 5, 1, 2), torch.randn(2, 8, 7, 5)
    traced = torch.fx.symbolic_trace(model)
    assert_same(traced(*inputs), model(*inputs), dtype=torch.float32)


def test_levels_come_as_a_list_or_one_by_one() -> None:
    head = randomize(regard.DynamicHead(8, norm_groups=2).double())
    levels = [torch.randn(2, 8, *side).double() for side in ((9, 7), (5, 4), (3, 2))]
    want = head(*levels)
    assert isinstance(want, list)
    assert_same(head(levels), want)
    assert_same(head(tuple(levels)), want)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self, x: Tensor, y: Tensor, z: Tensor) -> list[Tensor]:
            return self.head([x, y, z])

    assert_same(torch.fx.symbolic_trace(Model())(*levels), want)


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ([], "expected one level or more, got none"),
        ([(2, 8, 9, 7), (2, 8, 4, 3)], r"expected h w = \(5, 4\) in level 1, .*\(2, 8, 4, 3\)"),
        ([(2, 8, 9, 7), (1, 8, 5, 4)], r"expected batch and channels \(2, 8\) .* in level 1"),
        ([(2, 8, 9, 7), (2, 4, 5, 4)], r"expected axis c = 8 in \(b c h w\), got 4"),
    ],
)
def test_levels_that_do_not_fit_are_refused(levels: list[tuple[int, ...]], said: str) -> None:
    with pytest.raises(ValueError, match=rf"^DynamicHead: {said}"):
        regard.DynamicHead(8, norm_groups=2)([torch.randn(shape) for shape in levels])


@pytest.mark.parametrize("style", ["lp", "pl"])
@pytest.mark.parametrize("scale", [2, 3])
def test_sampling_without_offsets_is_bilinear(style: Any, scale: int) -> None:
    upsample = regard.DySample(36, scale, style=style, groups=2, dynamic_scope=True).double()
    nn.init.zeros_(upsample.offset.weight)
    x = torch.randn(2, 36, 5, 4, dtype=torch.float64)
    assert_same(upsample(x), interpolate(x, scale_factor=scale, mode="bilinear"))


@pytest.mark.parametrize(("scale", "side", "groups"), [(1, 5, 1), (3, 3, 2)])
def test_reassembly_is_that_of_unfolded_windows(scale: int, side: int, groups: int) -> None:
    upsample = regard.CARAFE(8, scale, kernel_size=side, groups=groups, hidden_dim=5)
    randomize(upsample.double())
    x = torch.randn(2, 8, 5, 4, dtype=torch.float64)
    scores = pixel_shuffle(upsample.encode(upsample.compress(x)), scale)
    a = scores.unflatten(1, (groups, side**2)).softmax(2)
    windows = unfold(x, side, padding=side // 2).unflatten(2, (5, 4))
    windows = windows.unflatten(1, (groups, -1, side**2))
    windows = windows.repeat_interleave(scale, 4).repeat_interleave(scale, 5)
    assert_same(upsample(x), (windows * a.unsqueeze(2)).sum(3).flatten(1, 2))
