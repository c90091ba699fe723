"""The attention that a model computes by itself is seen, all of it and nothing else."""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regard
from regard import explain
from regard.explanation import AttentionMap

IMAGE = (2, 3, 16, 24)


def grids(one: AttentionMap) -> list[tuple[int, ...]]:
    return [places.grid for places in (one.queries, one.keys) if places]


def images(*size: int) -> Tensor:
    return torch.rand(size or IMAGE, generator=torch.Generator().manual_seed(0))


def tokens(n: int = 7, d: int = 16) -> Tensor:
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(0))


class Heads(nn.Module):
    """Attention between all tokens, computed as a function says."""

    def __init__(self, how, d=16, heads=2):
        super().__init__()
        self.qkv = nn.Linear(d, 3 * d)
        self.mix = nn.Linear(heads, heads)
        self.heads, self.how = heads, how

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.how(self, q, k, v).transpose(1, 2).reshape(b, n, d)


def exact(q, k):
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)


def fused(layer, q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


def by_hand(layer, q, k, v):
    a = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return F.dropout(a.softmax(dim=-1, dtype=torch.float32).to(q.dtype), 0.5, layer.training) @ v


def by_einsum(layer, q, k, v):
    a = torch.einsum("bhid,bhjd->bhij", q * q.shape[-1] ** -0.5, k).softmax(-1)
    return torch.einsum("bhij,bhjd->bhid", a, v)


def with_an_ellipsis(layer, q, k, v):
    a = F.softmax(torch.einsum("...id,...jd->...ij", q * q.shape[-1] ** -0.5, k), -1)
    return torch.einsum("...ij,...jd->...id", a, v)


def transposed(layer, q, k, v):
    a = torch.softmax(k @ q.mT * q.shape[-1] ** -0.5, -2)  # keys by queries
    return (v.mT @ a).mT


def weighted_sum(layer, q, k, v):
    return (exact(q, k).unsqueeze(-1) * v.unsqueeze(2)).sum(-2)


@pytest.mark.parametrize(
    "how", [fused, by_hand, by_einsum, with_an_ellipsis, transposed, weighted_sum]
)
def test_the_map_is_seen_however_it_is_computed(how):
    layer, x = Heads(how).eval(), tokens()
    found = explain(layer, x)
    assert len(found) == 1 and torch.equal(found.output, layer(x))
    q, k, _ = layer.qkv(x).view(2, 7, 3, 2, -1).permute(2, 0, 3, 1, 4)
    one = found[""]
    assert (one.mechanism, one.range) == ("Heads", "softmax")
    want = exact(q, k)
    if how is weighted_sum:  # its queries are an axis like any other
        assert one.axes.split()[-1] == "branches"
        want = want.reshape(one.tensor.shape)
    else:
        assert one.axes == "b heads n m"
    torch.testing.assert_close(one.tensor, want.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        dict(is_causal=True),
        dict(scale=0.3),
        dict(attn_mask=torch.rand(7, 7, generator=torch.Generator().manual_seed(0)) < 0.6),
        dict(attn_mask=torch.randn(2, 1, 7, 7, generator=torch.Generator().manual_seed(0))),
        dict(attn_mask=torch.zeros(7, 7, dtype=torch.bool)),
        dict(groups=3),
    ],
    ids=["causal", "scale", "bool", "bias", "closed", "groups"],
)
def test_the_map_of_fused_attention_is_what_multiplies_the_values(options):
    groups = options.get("groups", 1)
    options = {k: v for k, v in options.items() if k != "groups"} | dict(enable_gqa=groups > 1)

    class Layer(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, **options)

    k, v = torch.randn(2, 2, 2, 7, 8)
    q = torch.randn(2, 2 * groups, 7, 8)
    found = explain(Layer(), q, k, v)
    torch.testing.assert_close(found[""].tensor @ v.repeat_interleave(groups, 1), found.output)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_the_map_of_torch_is_that_of_each_head(batch_first, need_weights):
    layer = nn.MultiheadAttention(16, 2, batch_first=batch_first).eval()
    x = tokens() if batch_first else tokens().transpose(0, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, x, x, need_weights=need_weights)[0]

    found = explain(Net(), x)
    want = layer(x, x, x, average_attn_weights=False)[1]
    assert found["layer"].axes == "b heads n m"
    torch.testing.assert_close(found["layer"].tensor, want.detach(), rtol=1e-6, atol=1e-7)
    assert torch.equal(found.output, Net()(x))


def test_the_fast_path_of_torchs_encoder_is_seen():
    layer = nn.TransformerEncoderLayer(16, 2, batch_first=True)
    net = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    found = explain(net, tokens())
    assert list(found) == [f"layers.{i}.self_attn" for i in range(3)]


class Box(nn.Module):
    """A detector's box head: the expectation of a distribution over bins."""

    def __init__(self, how):
        super().__init__()
        self.how, self.conv = how, nn.Conv2d(16, 1, 1, bias=False)
        self.register_buffer("bins", torch.arange(16.0))

    def forward(self, x):
        x = x.unflatten(1, (4, 16))
        if self.how == "convolution":
            return self.conv(x.transpose(1, 2).flatten(3).softmax(1))
        if self.how == "linear":
            return F.linear(x.movedim(2, -1).softmax(-1), self.bins[None])
        if self.how == "product":
            return x.movedim(2, -1).softmax(-1) @ self.bins[:, None]
        if self.how == "sum":
            return (x.softmax(2) * self.bins.view(-1, 1, 1)).sum(2)
        return x.softmax(2)


@pytest.mark.parametrize("how", ["convolution", "linear", "product", "sum", "classifier"])
def test_a_softmax_that_weighs_constants_is_no_attention(how):
    with pytest.raises(ValueError, match="no attention to explain"):
        explain(Box(how), images(2, 64, 4, 5))


def test_experts_that_are_selected_are_no_attention():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.experts = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16))

        def forward(self, x):
            weight, index = self.gate(x).softmax(-1).topk(2)
            return (
                (x[..., None, None, :] @ self.experts[index])
                .squeeze(-2)
                .mul(weight[..., None])
                .sum(-2)
            )

    with pytest.raises(ValueError, match="no attention to explain"):
        explain(Router(), tokens())


def test_heads_that_are_mixed_after_the_softmax_give_what_acts():
    def talking(layer, q, k, v):
        return layer.mix(exact(q, k).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) @ v

    layer, x = Heads(talking), tokens()
    one = explain(layer, x)[""]
    q, k, _ = layer.qkv(x).view(2, 7, 3, 2, -1).permute(2, 0, 3, 1, 4)
    want = layer.mix(exact(q, k).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(one.tensor, want.detach())
    assert one.range == "real"  # its rows do not add up to one


@pytest.mark.parametrize("divided", [True, False])
def test_products_without_a_softmax_are_seen(divided):
    def relu(layer, q, k, v):
        a = (q @ k.mT).relu().square()
        return (a / 7 if divided else a) @ v

    layer, x = Heads(relu), tokens()
    one = explain(layer, x)[""]
    q, k, _ = layer.qkv(x).view(2, 7, 3, 2, -1).permute(2, 0, 3, 1, 4)
    want = (q @ k.mT).relu().square() / (7 if divided else 1)
    torch.testing.assert_close(one.tensor, want.detach())
    assert (one.function, one.range) == ("product", "real")


@pytest.mark.parametrize("turned", [True, False])
def test_linear_attention_is_seen_although_its_map_is_never_computed(turned):
    def linear(layer, q, k, v):
        q, k = q.relu(), k.relu()
        context = k.mT @ v / 7
        return (context.mT @ q.mT).mT if turned else q @ context

    layer, x = Heads(linear), tokens(11)
    one = explain(layer, x)[""]
    q, k, _ = layer.qkv(x).view(2, 11, 3, 2, -1).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(one.tensor, (q.relu() @ k.relu().mT).detach())
    assert (one.function, one.axes) == ("linear attention", "b heads n m")


def test_attention_between_channels_has_channels():
    def channels(layer, q, k, v):
        return ((q.mT @ k).softmax(-1) @ v.mT).mT

    assert explain(Heads(channels), tokens())[""].axes == "b heads c d"


def test_attention_to_branches_is_seen():
    class Selective(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 5, padding=2)
            self.select = nn.Linear(8, 16)

        def forward(self, x):
            u = torch.stack([self.one(x), self.two(x)], 1)
            a = self.select(u.sum(1).mean((2, 3))).view(-1, 2, 8).softmax(1)
            return (u * a[..., None, None]).sum(1)

    one = explain(Selective(), images())[""]
    assert (one.axes, tuple(one.tensor.shape)) == ("b c branches", (2, 8, 2))
    torch.testing.assert_close(one.tensor.sum(-1), torch.ones(2, 8))


def test_attention_to_learned_keys_and_values_is_seen():
    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            self.keys, self.values = nn.Parameter(torch.randn(2, 16, 5))

        def forward(self, x):
            return (x @ self.keys).softmax(-1) @ self.values.mT

    one = explain(Memory(), tokens())[""]
    assert one.axes == "b n m" and one.tensor.shape == (2, 7, 5)


def test_sampling_points_are_seen_with_their_weights(tmp_path):
    class Deformable(nn.Module):
        """Two heads read three points each from two levels, for every pixel."""

        def __init__(self):
            super().__init__()
            self.stem, self.down = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 2, 2)
            self.weight, self.offset = nn.Linear(8, 2 * 6), nn.Linear(8, 2 * 6 * 2)

        def forward(self, x):
            levels = [self.stem(x)]
            levels.append(self.down(levels[0]))
            q = levels[1].flatten(2).transpose(1, 2)
            b, n, _ = q.shape
            a = self.weight(q).view(b, n, 2, 6).softmax(-1)
            at = self.offset(q).tanh().view(b, n, 2, 2, 3, 2)
            read = []
            for i, level in enumerate(levels):
                v = level.reshape(b * 2, 4, *level.shape[2:])
                grid = at[:, :, :, i].transpose(1, 2).flatten(0, 1)
                read.append(F.grid_sample(v, grid, align_corners=False))
            a = a.transpose(1, 2).reshape(b * 2, 1, n, 6)
            return (torch.stack(read, -2).flatten(-2) * a).sum(-1).view(b, 8, n)

    net, x = Deformable(), images()
    found = explain(net, x)
    one = found[""]
    assert one.axes == "b heads n points" and one.form == "points"
    q = net.down(net.stem(x)).flatten(2).transpose(1, 2)
    want = net.weight(q).view(2, -1, 2, 6).softmax(-1).transpose(1, 2)
    torch.testing.assert_close(one.tensor, want.detach())
    where = net.offset(q).tanh().view(2, -1, 2, 6, 2).transpose(1, 2)
    assert one.points is not None
    torch.testing.assert_close(one.points, where.detach())
    found.figure(query=5).savefig(tmp_path / "points.png")
    with pytest.raises(ValueError, match="no query 999"):
        found.figure(query=999)


# places in the image


class Patches(nn.Module):
    """A transformer's layer on the patches of an image, with class tokens."""

    def __init__(self, how=fused, before=1, after=0):
        super().__init__()
        self.embed, self.layer = nn.Conv2d(3, 16, 4, 4), Heads(how)
        self.before = nn.Parameter(torch.randn(1, before, 16))
        self.after = nn.Parameter(torch.randn(1, after, 16))

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.before.expand(len(x), -1, -1), x, self.after.expand(len(x), -1, -1)], 1)
        return self.layer(x)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (5, 0), (0, 2), (1, 1)])
@pytest.mark.parametrize("how", [fused, by_hand])
def test_patches_lie_in_the_image(how, before, after):
    net = Patches(how, before, after)
    one = explain(net, images())["layer"]
    assert grids(one) == [(4, 6)] * 2
    query = before + 2 * 6 + 3
    own = one.tensor[:, :, query, before : before + 24].mean(1).view(2, 4, 6)
    torch.testing.assert_close(one.heat(query=(2, 3)), own)
    torch.testing.assert_close(one.heat(query=query), own)
    received = one.tensor[..., before : before + 24].mean((1, 2)).view(2, 4, 6)
    torch.testing.assert_close(one.heat(query="all"), received)
    torch.testing.assert_close(
        one.heat(query=(2, 3), heads=1), one.tensor[:, 1, query, before:][:, :24].view(2, 4, 6)
    )
    assert one.heat(IMAGE[2:]).shape == (2, 16, 24)
    with pytest.raises(ValueError, match=r"layer: no place \(4, 0\) in a grid of 4 × 6"):
        one.heat(query=(4, 0))


class Shifted(nn.Module):
    """Attention in windows of 2 × 3 patches, shifted."""

    def __init__(self, shift, patch=2):
        super().__init__()
        self.embed, self.layer, self.shift = nn.Conv2d(3, 16, patch, patch), Heads(by_hand), shift

    def forward(self, x):
        x = self.embed(x).movedim(1, -1)
        b, h, w, c = x.shape
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(b, h // 2, 2, w // 3, 3, c).transpose(2, 3).reshape(-1, 6, c)
        x = self.layer(x).view(b, h // 2, w // 3, 2, 3, c).transpose(2, 3).reshape(b, h, w, c)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


@pytest.mark.parametrize("shift", [0, 1])
def test_windows_are_put_back_on_the_image(shift):
    net = Shifted(shift)
    one = explain(net, images())["layer"]
    assert one.axes == "b k heads n m" and grids(one) == [(8, 12)] * 2
    for row in range(8):
        for column in range(12):
            heat = one.heat(query=(row, column))
            r, c = (row - shift) % 8, (column - shift) % 12
            window, inside = r // 2 * 4 + c // 3, r % 2 * 3 + c % 3
            want = torch.zeros(2, 8, 12)
            for key in range(6):
                y, x = r // 2 * 2 + key // 3, c // 3 * 3 + key % 3
                want[:, (y + shift) % 8, (x + shift) % 12] = one.tensor[
                    :, window, :, inside, key
                ].mean(1)
            torch.testing.assert_close(heat, want)
    whole = sum(one.heat(query=(i, j)) for i in range(8) for j in range(12)) / 96
    torch.testing.assert_close(one.heat(query="all"), whole)


def test_merged_patches_lie_on_a_coarser_grid():
    class Merging(Shifted):
        def forward(self, x):
            x = self.embed(x).movedim(1, -1)
            b, h, w, c = x.shape
            x = x.view(b, h // 2, 2, w // 2, 2, c).amax((2, 4))
            return self.layer(x.view(b, -1, c))

    one = explain(Merging(0), images())["layer"]
    assert grids(one) == [(4, 6)] * 2


def test_frames_of_a_video_are_averaged():
    class Tubes(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layer = nn.Conv3d(3, 16, (1, 4, 4), (1, 4, 4)), Heads(fused)

        def forward(self, x):
            return self.layer(self.embed(x).flatten(2).transpose(1, 2))

    one = explain(Tubes(), images(2, 3, 5, 8, 12))["layer"]
    assert grids(one) == [(5, 2, 3)] * 2
    want = one.tensor[:, :, (3 * 2 + 1) * 3 + 2].mean(1).view(2, 5, 2, 3).mean(1)
    torch.testing.assert_close(one.heat(query=(3, 1, 2)), want)


def test_one_sample_is_as_good_as_two():
    one = explain(Shifted(1), images(1, 3, 16, 24))["layer"]
    assert tuple(one.tensor.shape) == (1, 16, 2, 6, 6) and grids(one) == [(8, 12)] * 2


# what is kept


def test_maps_are_reduced_before_they_are_whole(monkeypatch):
    monkeypatch.setattr("regard.explanation.fused.CHUNK", 2 * 2 * 25 * 3)  # three queries at a time
    net, x = Patches(), images()
    whole = explain(net, x)["layer"].tensor
    for heads, query, want in [
        ("mean", None, whole.mean(1, keepdim=True)),
        ("max", None, whole.amax(1, keepdim=True)),
        (None, "mean", whole.mean(2, keepdim=True)),
        (None, 4, whole[:, :, 4:5]),
        ("mean", (2, 3), whole[:, :, 16:17].mean(1, keepdim=True)),
    ]:
        one = explain(net, x, reduce={"heads": heads, "query": query})["layer"]
        torch.testing.assert_close(one.tensor, want.view(one.tensor.shape))
        assert grids(one)[-1] == (4, 6) and one.heat().shape == (2, 4, 6)


def test_a_long_map_is_never_whole_in_memory():
    layer, x = Heads(fused, heads=2), tokens(6000)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            y = func(*args, **kwargs or {})
            largest = max(largest, y.numel() if isinstance(y, Tensor) else 0)
            return y

    with Sizes():
        one = explain(layer, x, reduce={"query": "mean"})[""]
    assert one.tensor.shape == (2, 2, 1, 6000)
    assert largest <= 2**24 < 2 * 2 * 6000 * 6000


@pytest.mark.parametrize(
    ("reduce", "said"),
    [
        ({"head": 1}, "reduce: expected 'heads' and 'query', got 'head'"),
        ({"heads": 2}, "reduce: heads: expected 'mean' or 'max', got 2"),
        ({"query": "first"}, r"reduce: query: expected an index, \(row, column\) or 'mean'"),
        ({"query": 99}, "reduce: query: expected 0 to 24, got 99"),
        ({"query": (9, 9)}, r"no place \(9, 9\) in a grid of 4 × 6"),
    ],
)
def test_what_cannot_be_kept_is_said(reduce, said):
    with pytest.raises(ValueError, match=said):
        explain(Patches(), images(), reduce=reduce)


@pytest.mark.parametrize("how", [fused, by_hand])
def test_gradients_flow_through_the_maps(how):
    net, x = Patches(how), images()
    found = explain(net, x, grad=True)
    a = found["layer"].tensor
    slope = found.gradients(found.output[:, 0].sum())["layer"]
    values = net.layer.qkv(torch.cat([net.before.expand(2, -1, -1), net.embed(x).flatten(2).mT], 1))
    v = values.view(2, 25, 3, 2, 8)[:, :, 2].transpose(1, 2)
    want = torch.zeros_like(a)
    want[:, :, 0] = v.sum(-1)
    torch.testing.assert_close(slope, want)
    assert torch.equal(found.output, net.eval()(x))


def test_gradients_flow_through_the_maps_of_torchs_layer():
    layer, x = nn.MultiheadAttention(16, 2, batch_first=True, add_bias_kv=True), tokens()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x, x, x)[0]

    found = explain(Net(), x, grad=True)
    (via,) = torch.autograd.grad(
        found.output.square().sum(), layer.in_proj_weight, retain_graph=True
    )
    (want,) = torch.autograd.grad(layer(x, x, x)[0].square().sum(), layer.in_proj_weight)
    torch.testing.assert_close(via, want)
    assert found.gradients(found.output.square().sum())["layer"].shape == (2, 2, 7, 8)


def test_maps_without_a_graph_have_no_gradients():
    found = explain(Patches(), images())
    with pytest.raises(ValueError, match=r"use explain\(\.\.\., grad=True\)"):
        found.gradients(found.output.sum())
    with pytest.raises(ValueError, match="a reduced map has no gradient"):
        explain(Patches(), images(), grad=True, reduce={"heads": "mean"})


@pytest.mark.parametrize("unbatched", [True, False])
@pytest.mark.parametrize(
    "options", [{}, dict(add_bias_kv=True), dict(add_zero_attn=True), dict(kdim=6, vdim=5)]
)
def test_the_map_of_torch_is_equal_with_every_option(options, unbatched):
    layer = nn.MultiheadAttention(16, 2, batch_first=True, **options)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, *args, **kwargs):
            return self.layer(*args, **kwargs)[0]

    x, k, v = tokens(), tokens(5, options.get("kdim", 16)), tokens(5, options.get("vdim", 16))
    pad = torch.tensor([[False] * 5, [False, True, False, True, False]])
    some = torch.zeros(7, 5, dtype=torch.bool).fill_diagonal_(True)
    if unbatched:
        x, k, v, pad = x[0], k[0], v[0], pad[1]
    for masks in (
        {},
        dict(key_padding_mask=pad),
        dict(attn_mask=some),
        dict(attn_mask=torch.randn(7, 5)),
        dict(attn_mask=some, key_padding_mask=pad),
        {} if unbatched else dict(attn_mask=torch.randn(4, 7, 5)),
    ):
        one = explain(Net().eval(), x, k, v, **masks)["layer"]
        want = layer.eval()(x, k, v, average_attn_weights=False, **masks)[1].detach()
        torch.testing.assert_close(one.tensor, want.view(one.tensor.shape), rtol=1e-5, atol=1e-6)


def test_only_the_wanted_paths_are_seen():
    net = nn.Sequential(Heads(fused), Heads(by_hand), nn.Sequential(Heads(fused)))
    assert list(explain(net, tokens())) == ["0", "1", "2.0"]
    assert list(explain(net, tokens(), only="**0")) == ["0", "2.0"]
    with pytest.raises(ValueError, match=r"no attention at '3'; there are .*2\.0"):
        explain(net, tokens(), only="3")


def test_a_layer_that_runs_twice_has_two_maps():
    layer = Heads(fused)
    assert list(explain(nn.Sequential(layer, layer), tokens())) == ["0", "0#1"]


def test_mechanisms_are_not_seen_twice():
    net = nn.Sequential(regard.create("multi_head", 16, num_heads=2), Heads(fused))
    assert [one.mechanism for one in explain(net, tokens()).values()] == ["MultiHead", "Heads"]


# nothing else happens


def test_the_model_is_left_alone():
    net = nn.Sequential(Patches(), nn.Dropout(0.5)).train()
    before = [(m, m.training, dict(m.__dict__["_forward_hooks"])) for m in net.modules()]
    state = torch.get_rng_state()
    explain(net, images())
    assert all(
        (m.training, dict(m._forward_hooks)) == (training, hooks) for m, training, hooks in before
    )
    assert torch.equal(state, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_that_cannot_be_copied_is_explained():
    net = Patches()
    net.lock = threading.Lock()
    assert list(explain(net, images())) == ["layer"]


@pytest.mark.parametrize("other", ["explain", "train"])
def test_threads_do_not_disturb_one_another(other):
    net, x, errors = Patches().train(), images(), []
    want = explain(net, x)["layer"].tensor
    stop = threading.Event()

    def beside():
        y = torch.rand(IMAGE, generator=torch.Generator().manual_seed(1))
        while not stop.is_set():
            if other == "explain":
                explain(net, y)
            elif not all(m.training for m in net.modules()) or net.layer._forward_hooks:
                errors.append("the model was changed")

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        for _ in range(10):
            assert torch.equal(explain(net, x)["layer"].tensor, want)
    finally:
        stop.set()
        thread.join()
    assert not errors


def test_a_compiled_model_is_explained():
    net, x = Patches(), images()
    want = explain(net, x)["layer"].tensor
    assert torch.equal(explain(torch.compile(net, backend="eager"), x)["layer"].tensor, want)


def test_keyword_arguments_are_passed_on():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Patches()

        def forward(self, *, pixel_values):
            return {"logits": self.net(pixel_values)}

    one = explain(Named(), pixel_values=images())
    assert grids(one["net.layer"]) == [(4, 6)] * 2 and one.output["logits"].shape == (2, 25, 16)


# through all layers


class Deep(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, 4)
        self.start = nn.Parameter(torch.randn(1, 1, 16))
        self.layers = nn.ModuleList(Heads(fused) for _ in range(depth))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(len(x), -1, -1), x], 1)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x[:, 0])


def test_attention_rollout_is_the_product_of_the_layers():
    found = explain(Deep(), images())
    want = torch.eye(25)
    for one in found.values():
        a = one.tensor.mean(1) + torch.eye(25)
        want = a / a.sum(-1, keepdim=True) @ want
    got = found.rollout()
    torch.testing.assert_close(got.tensor, want)
    torch.testing.assert_close(got.heat(query=0), want[:, 0, 1:].view(2, 4, 6))
    assert got.axes == "b n m" and grids(got) == [(4, 6)] * 2
    assert not torch.allclose(found.rollout(heads="max").tensor, want)


def test_rollout_weighted_by_gradients_depends_on_the_score():
    net, x = Deep(), images()
    found = explain(net, x, grad=True)
    score = found.output[:, 2].sum()
    want = torch.eye(25)
    for key, slope in found.gradients(score).items():
        want = want + (slope * found[key].tensor).clamp(min=0).mean(1) @ want
    got = found.rollout(score)
    torch.testing.assert_close(got.tensor, want.detach())
    assert not torch.allclose(got.tensor, found.rollout(found.output[:, 3].sum()).tensor)


def test_rollout_says_what_it_needs():
    with pytest.raises(ValueError, match=r"maps between the same tokens .* got layer \(b k heads"):
        explain(Shifted(1), images()).rollout()
    with pytest.raises(ValueError, match="heads: expected 'mean', 'max' or 'min', got 'sum'"):
        explain(Deep(), images()).rollout(heads="sum")  # type: ignore[arg-type]


# files


def test_maps_are_saved_as_arrays(tmp_path):
    found = explain(Deep(), images())
    found.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as saved:
        assert set(saved) == set(found)
        assert np.array_equal(saved["layers.1"], found["layers.1"].tensor.numpy())


def page_data(path) -> dict[str, Any]:
    (line,) = (x for x in path.read_text("utf-8").splitlines() if x.startswith("const data = "))
    return json.loads(line.removeprefix("const data = ").removesuffix(";"))


def array(text: str, dtype: Any) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype)


@pytest.mark.parametrize("net", [Deep(), Shifted(1)], ids=["whole", "windows"])
def test_a_page_has_the_map_of_every_place(net, tmp_path):
    found = explain(net, images())
    found.save(tmp_path / "maps.html", title="<Maps> & more")
    text = (tmp_path / "maps.html").read_text("utf-8")
    assert "&lt;Maps&gt; &amp; more" in text and "default-src 'none'" in text
    assert not re.search(r"(src|href)=.?https?:", text)
    data = page_data(tmp_path / "maps.html")
    assert len(data["images"]) == len(data["maps"]) == 2
    for row, maps in enumerate(data["maps"]):
        for one, own in zip(maps, found.values(), strict=True):
            h, w = one["keys"]
            values = array(one["values"], np.uint8).reshape(-1, one["m"])
            queries, keys = array(one["qplaces"], np.int16), array(one["kplaces"], np.int16)
            keys = keys.reshape(one["windows"], one["m"])
            for at in range(h * w):
                q = int(np.flatnonzero(queries == at)[0])
                heat = np.zeros(h * w)
                where = keys[q // one["n"]]
                heat[where[where >= 0]] = values[q][where >= 0]
                want = own.heat(query=divmod(at, w))[row].flatten().numpy()
                close = np.abs(heat / heat.max() - want / want.max())
                assert close.max() < 0.01


def test_a_page_has_bars_for_channels_and_needs_an_image(tmp_path):
    net = regard.insert(nn.Sequential(nn.Conv2d(3, 16, 3)), "cbam", at="0", example_input=images())
    explain(net, images()).save(tmp_path / "maps.html", rows=1)
    (maps,) = page_data(tmp_path / "maps.html")["maps"]
    assert [one["kind"] for one in maps] == ["bars", "plane", "plane"]
    assert len(maps[0]["bars"]) == 16
    with pytest.raises(ValueError, match="a page of maps needs the image"):
        explain(Heads(fused), tokens()).save(tmp_path / "none.html")


def test_a_place_may_be_given_in_parts_of_the_image():
    one = explain(Patches(), images())["layer"]
    assert torch.equal(one.heat(query=(0.5, 0.99)), one.heat(query=(2, 5)))
    with pytest.raises(ValueError, match="no place"):
        one.heat(query=(0.5, 1.2))
