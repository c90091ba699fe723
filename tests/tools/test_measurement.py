"""The counts are those that arithmetic gives, and measuring leaves nothing behind."""

import json
import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import regard
from regard.core.text import aligned, si
from regard.measurement import count, measure, peak_memory, scaling


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def work(function, *inputs):
    return count(Call(function), *inputs)


@pytest.mark.parametrize(
    ("name", "macs", "params"),
    [("resnet18", 1_814_073_344, 11_689_512), ("resnet50", 4_089_184_256, 25_557_032)],
)
def test_the_counts_that_papers_print(name, macs, params):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    found = measure(model)
    assert (found.macs, found.params, found.device) == (macs, params, "meta")


b, h, n, m, d, e = 2, 3, 5, 7, 4, 6
q, k, v = torch.randn(b, h, n, d), torch.randn(b, h, m, d), torch.randn(b, h, m, e)
PRODUCTS = {
    "conv": (lambda: F.conv2d(torch.ones(2, 6, 5, 4), torch.ones(8, 3, 3, 3), groups=2), 96 * 27),
    "conv1d": (lambda: F.conv1d(torch.ones(1, 3, 7), torch.ones(5, 3, 3)), 5 * 5 * 9),
    "linear": (lambda: F.linear(torch.ones(3, 4), torch.ones(5, 4), torch.ones(5)), 60),
    "matmul": (lambda: q @ k.mT, b * h * n * m * d),
    "einsum": (lambda: torch.einsum("bhnd,bhmd->bhnm", q, k), b * h * n * m * d),
    "matrix by vector": (lambda: torch.ones(3, 4) @ torch.ones(4), 12),
    "vectors": (lambda: torch.ones(4) @ torch.ones(4), 4),
    "distances": (lambda: torch.cdist(torch.ones(3, 4), torch.ones(5, 4)), 60),
    "bilinear": (lambda: F.bilinear(torch.ones(2, 3), torch.ones(2, 4), torch.ones(5, 3, 4)), 120),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_counted(name):
    function, macs = PRODUCTS[name]
    assert work(function).macs == macs


def test_fused_attention_counts_as_its_steps():
    wide = F.pad(v, (0, d - e)) if e > d else v
    fused = work(F.scaled_dot_product_attention, q, k, wide)
    steps = work(lambda q, k, v: (q @ k.mT).softmax(-1) @ v, q, k, wide)
    assert fused.macs == steps.macs == 2 * b * h * n * m * d
    assert fused.elementwise == steps.elementwise == b * h * n * m


def test_grouped_queries_are_all_counted():
    pair = torch.randn(b, 1, m, d)
    found = work(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True), q, pair)
    assert found.macs == 2 * b * h * n * m * d


def test_deformable_convolution_is_counted():
    x, weight = torch.randn(2, 6, 8, 7), torch.randn(4, 3, 3, 3)
    offset = torch.zeros(2, 18, 6, 5)
    plain = work(F.conv2d, x[:, :3], weight)
    grouped = work(torchvision.ops.deform_conv2d, x, offset, weight)
    assert grouped.macs == plain.macs == 2 * 4 * 6 * 5 * 27
    assert grouped.elementwise == 2 * 6 * 6 * 5 * 9  # one value is interpolated for each tap


@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_are_counted(bidirectional):
    layer = nn.LSTM(4, 5, num_layers=2, bidirectional=bidirectional)
    matrices = sum(w.numel() for w in layer.parameters() if w.dim() == 2)
    assert count(layer, torch.randn(3, 2, 4)).macs == 3 * 2 * matrices


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(16, 4, dim_feedforward=24, batch_first=True)

    def forward(self, x):
        return self.encoder(x)


def test_the_fast_path_of_torch_is_counted():
    x = torch.randn(2, 5, 16)
    attention = 2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16)
    layer = nn.MultiheadAttention(16, 4, batch_first=True)
    assert count(layer, x, x, x).macs == attention
    found = measure(Encoder(), x, latency=False)
    assert found.macs == attention + 2 * 2 * 5 * 16 * 24
    assert {row.path: row.macs for row in found.modules}["encoder.linear1"] == 2 * 5 * 16 * 24
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("function", "operations"),
    [
        (torch.sigmoid, 120),
        (lambda x: x * x[:, :, :1, :1], 120),
        (lambda x: x.mean((2, 3)), 120),
        (lambda x: x.amax(1), 120),
        (lambda x: x.softmax(-1), 120),
        (lambda x: F.avg_pool2d(x, 2), 2 * 3 * 2 * 2 * 4),
        (lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear"), 2 * 3 * 2 * 2),
        (lambda x: x.flatten(2).mT.clone(), 0),
        (lambda x: torch.cat([x, x]).roll(1, 0)[:, :2], 0),
        (lambda x: torch.zeros_like(x), 0),
        (lambda x: F.pad(x, (1, 1)), 0),
    ],
)
def test_elementwise_work(function, operations):
    found = work(function, torch.randn(2, 3, 4, 5))
    assert found == (0, operations)


def test_squeeze_and_excitation_costs_what_its_equations_say():
    macs, elementwise = count(regard.create("se", 16, reduction=4), torch.randn(2, 16, 5, 7))
    assert macs == 2 * (16 * 4 + 4 * 16)
    assert elementwise == 2 * (16 * 35 + 4 + 16 + 16 * 35)  # mean, relu, sigmoid, product


def test_rows_add_up():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU()))
    found = measure(model, (1, 3, 6, 6), latency=False)
    rows = {row.path: row for row in found.modules}
    assert list(rows) == ["", "0", "1", "1.0", "1.1"]
    assert rows[""].macs == found.macs == rows["0"].macs + rows["1"].macs
    assert rows["1"].params == rows["1.0"].params == 25
    assert rows["1"].elementwise == rows["1.1"].elementwise == 5 * 36
    assert list(measure(model, (1, 3, 6, 6), latency=False, depth=1).modules) == [
        row for row in found.modules if "." not in row.path
    ]


def test_shared_modules_count_once_as_parameters_and_twice_as_work():
    layer = nn.Linear(4, 4, bias=False)
    found = measure(nn.Sequential(layer, layer), (1, 4), latency=False)
    assert (found.params, found.macs) == (16, 32)


def test_a_list_of_modules_costs_what_is_in_it():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 6)])

        def forward(self, x):
            return self.layers[1](self.layers[0](x))

    rows = {r.path: r for r in measure(Two(), (1, 4), latency=False).modules}
    assert rows["layers"].macs == rows[""].macs == 50
    assert rows["layers"].memory == rows["layers.1"].memory == 24


def test_what_a_hook_adds_belongs_to_its_host():
    model = nn.Sequential(nn.Conv2d(3, 16, 1))
    model[0].add_module("attention", regard.create("se", 16, reduction=4))
    model[0].register_forward_hook(lambda host, args, out: host.attention(out))
    rows = {r.path: r for r in measure(model, (1, 3, 6, 6), latency=False).modules}
    assert rows["0.attention"].macs == 128
    assert rows["0"].macs == rows[""].macs == 128 + 3 * 16 * 36


def test_memory_is_that_of_the_live_tensors():
    x = torch.randn(1, 10)  # 40 bytes
    assert peak_memory(Call(lambda x: x.exp().exp().exp()), x) == 80
    assert peak_memory(Call(lambda x: (x.exp(), x.cos(), x.sin())), x) == 120
    assert peak_memory(Call(lambda x: x.view(2, 5).mT), x) == 0
    assert peak_memory(Call(lambda x: x.view(2, 5).exp()[0]), x) == 40
    assert peak_memory(nn.ReLU(inplace=True), x) == 0


def test_memory_kept_for_the_backward_pass():
    x = torch.randn(1, 10)
    kept = {
        name: peak_memory(Call(function), x, backward=True)
        for name, function in {
            "none but the output": lambda x: x + 1 + 1,
            "both sigmoids": lambda x: x.sigmoid().sigmoid(),
        }.items()
    }
    assert kept == {"none but the output": 40, "both sigmoids": 80}


def test_a_module_is_charged_from_its_call_on():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.late = Call(torch.exp)

        def forward(self, x):
            y = x.cos()
            return y + self.late(x)

    rows = {r.path: r.memory for r in measure(Two(), (1, 10), latency=False).modules}
    assert rows == {"": 120, "late": 40}


def test_fused_attention_needs_no_quadratic_memory():
    block = regard.create("non_local", 8)
    fused = scaling(block, (16, 32), leading=(1, 8), latency=False)
    assert fused.growth("memory") == pytest.approx(1, abs=0.05)
    assert fused.growth("memory_kept") == pytest.approx(1, abs=0.05)
    assert fused.growth("macs") > 1.5
    block.tap.register_forward_hook(lambda *_: None)  # watched: now the map is built
    watched = scaling(block, (16, 32), leading=(1, 8), latency=False)
    assert watched.growth("memory") > 1.7


@pytest.mark.parametrize("part", [False, True])
def test_compiled_models_cost_what_they_cost_uncompiled(part):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), regard.create("se", 16))
    plain = measure(model, (1, 3, 6, 6), latency=False)
    if part:
        model[1] = torch.compile(model[1], backend="eager")
    compiled = model if part else torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(torch.randn(1, 3, 6, 6))
    assert measure(compiled, (1, 3, 6, 6), latency=False) == plain


def test_measuring_leaves_the_model_as_it_was():
    model = nn.Sequential(
        Call(torch.rand_like), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout()
    )
    model[1].eval()
    x = torch.randn(2, 3, 5, 5, requires_grad=True)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    untouched, state = x.detach().clone(), torch.get_rng_state()
    measure(model, x)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model] == [True, False, True, True]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(x, untouched)
    assert x.grad is None and all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_nothing_stays_behind_when_the_model_fails():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(3, 4)).train()
    with pytest.raises(RuntimeError, match="shapes"):
        measure(model, (1, 3))
    assert model.training and model[0].training
    assert torch.backends.mha.get_fastpath_enabled()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_another_device_gets_a_copy():
    model = nn.Linear(3, 4)
    found = measure(model, (1, 3), device="meta")
    assert (found.device, found.macs, found.latency) == ("meta", 12, None)
    assert model.weight.device.type == "cpu"


def test_several_inputs_and_types():
    attention = regard.create("multi_head", 16, num_heads=4).double()
    query, key = torch.randn(1, 3, 16).double(), (1, 5, 16)
    found = measure(attention, query, key, key, latency=False)
    assert found.input == ((1, 3, 16), (1, 5, 16), (1, 5, 16))
    assert found.macs == 2 * 3 * 256 + 2 * 5 * 256 + 2 * 3 * 5 * 16


def test_operators_that_nobody_knows_are_named():
    boxes, scores = torch.rand(3, 4), torch.rand(3)
    model = Call(lambda boxes, scores: torchvision.ops.nms(boxes, scores, 0.5))
    found = measure(model, boxes, scores, latency=False)
    assert found.uncounted == ("torchvision::nms",)
    assert "torchvision::nms" in found.table()


def test_latency_has_a_median_and_a_spread():
    latency = measure(nn.Linear(3, 4), (1, 3)).latency
    assert latency is not None
    assert latency.median > 0 and latency.iqr >= 0 and latency.runs > 1
    assert latency.threads == torch.get_num_threads()


def test_table_and_json_tell_the_same():
    found = measure(regard.create("se", 16), (1, 16, 5, 5), latency=False)
    plain = json.loads(found.to_json())
    assert plain["macs"] == found.macs == plain["modules"][0]["macs"]
    assert plain["modules"][1]["path"] == "squeeze"
    lines = found.table().splitlines()
    assert lines[0] == "SqueezeExcitation on 1 × 16 × 5 × 5 (cpu)"
    assert lines[2].split()[:3] == ["(all)", "SqueezeExcitation", "32"]


def test_scaling_tells_linear_from_quadratic():
    found = scaling(
        Call(lambda x: x.flatten(2).mT @ x.flatten(2)),
        (4, 8, (4, 12)),
        leading=(1, 3),
        latency=False,
    )
    assert found.growth("macs") == pytest.approx(2)
    assert "n^2.00" in found.table().splitlines()[-1]
    assert json.loads(json.dumps(found.to_dict()))["measurements"][2]["input"] == [[1, 3, 4, 12]]
    with pytest.raises(ValueError, match="at least two sizes, got \\(8,\\)"):
        scaling(nn.ReLU(), (8,))


def test_a_depth_below_zero_is_refused():
    with pytest.raises(ValueError, match="depth must be zero or more, got -1"):
        measure(nn.ReLU(), (1, 3), depth=-1)


def test_text():
    assert si(0) == "0"
    assert si(1e12, "B") == "1.000 TB"
    assert aligned([("a", "bb", "c"), ("aa", "b", "10")], left=2) == "a   bb   c\naa  b   10"


class Named(nn.Module):
    """Takes its image by name, as the models of transformers do, and a list, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def forward(
        self,
        pixels: list[torch.Tensor] | None = None,
        *,
        pixel_values: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> dict[str, torch.Tensor]:
        x = pixel_values if pixels is None else torch.stack(pixels)
        assert x is not None and return_dict
        return {"y": self.conv(x)}


def test_inputs_with_names_and_in_lists():
    x = torch.rand(2, 3, 5, 5)
    wanted = measure(Named().conv, x, latency=False)
    for args, kwargs in (
        ((), {"pixel_values": x}),
        ((), {"pixel_values": (2, 3, 5, 5), "return_dict": True}),
        (({"pixel_values": x},), {}),
        (([*x],), {}),
    ):
        found = measure(Named(), *args, **kwargs)
        assert found.macs == wanted.macs and found.latency
        listed = bool(args) and isinstance(args[0], list)  # which is stacked first
        assert listed or found.memory_kept == wanted.memory_kept
        assert sum(math.prod(shape) for shape in found.input) == x.numel()
    assert measure(Named(), pixel_values=(2, 3, 5, 5), device="meta").macs == wanted.macs
    with pytest.raises(TypeError, match="inputs: expected tensors or shapes"):
        measure(Named(), "image")
