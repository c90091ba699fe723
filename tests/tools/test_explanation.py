"""The maps are those of the mechanisms, find their place in the image, and nothing stays behind."""

import json
import sys

import pytest
import torch
from torch import nn

import regard
from regard import explain
from regard.explanation.maps import AttentionMap, lay_out

MECHANISMS = {
    "squeeze_excitation": dict(channels=16, reduction=4),
    "eca": dict(channels=16),
    "cbam": dict(channels=16, reduction=4),
    "simam": dict(),
    "coordinate": dict(channels=16, reduction=4),
    "non_local": dict(channels=16),
    "dual_attention": dict(channels=16, reduction=4),
    "selective_kernel": dict(in_channels=16, groups=4, min_hidden_dim=8),
    "spatial_transformer": dict(
        channels=16, input_size=12, kernel_sizes=(3, 3), hidden_channels=(4, 5)
    ),
}
IMAGE = (2, 3, 12, 10)


class Net(nn.Module):
    """A stem and one mechanism behind it."""

    def __init__(self, attention, *, times=1):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.attention = attention
        self.times = times

    def forward(self, x):
        x = self.stem(x)
        for _ in range(self.times):
            x = self.attention(x)
        return x


class Tokens(nn.Module):
    """A transformer's layer on the patches of an image, behind a class token."""

    def __init__(self, attention, patch=2, prefix=1):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, patch, patch)
        self.attention = attention
        self.prefix = prefix

    def forward(self, x):
        t = self.patches(x).flatten(2).mT
        return self.attention(torch.cat([t.new_ones(len(t), self.prefix, 16), t], 1))


def build(name):
    return Net(regard.create(name, **MECHANISMS[name])).eval()


def one(axes, tensor, **facts):
    facts = {"range": "real", "grid": None, "path": "a", "part": "", "call": 0} | facts
    return AttentionMap(mechanism="M", axes=axes, tensor=tensor, input_shape=(), **facts)


@pytest.mark.parametrize("name", MECHANISMS)
def test_the_map_is_that_of_the_mechanism(name):
    model, x = build(name), torch.randn(IMAGE)
    found = explain(model, x)
    with torch.no_grad():
        z = model.attention.prepare(model.stem(x))
        expected = model.attention.attention(z)
    if isinstance(expected, tuple):
        maps = [m for m in found.values() if m.part and "." not in m.part]
        assert len(maps) == len(expected)
        assert all(torch.equal(m.tensor, a) for m, a in zip(maps, expected, strict=True))
    else:
        assert torch.equal(found["attention"].tensor, expected)
    for m in found.values():
        part = model.get_submodule(m.path)  # the mechanism, or one inside of it
        assert m.path.startswith("attention") and m.mechanism == type(part).__name__
        assert len(m.names) == m.tensor.dim()
        assert m.input_shape == (2, 16, 12, 10)


def test_the_parts_of_a_composite_have_their_own_maps():
    found = explain(build("cbam"), torch.randn(IMAGE))
    assert set(found) == {"attention", "attention[channel]", "attention[spatial]"}
    channel, spatial = found["attention[channel]"], found["attention[spatial]"]
    assert (channel.axes, spatial.axes) == ("b c 1 1", "b 1 h w")
    assert torch.equal(channel.tensor * spatial.tensor, found["attention"].tensor)


def test_maps_that_are_tuples_are_taken_apart():
    found = explain(build("coordinate"), torch.randn(IMAGE))
    assert {key: m.axes for key, m in found.items()} == {
        "attention[h]": "b c h 1",
        "attention[w]": "b c 1 w",
    }


def test_the_root_has_no_path():
    found = explain(regard.create("cbam", 16), torch.randn(1, 16, 5, 5))
    assert set(found) == {"", "[channel]", "[spatial]"}


def test_every_call_has_its_map():
    model, x = Net(regard.create("simam"), times=3), torch.randn(IMAGE)
    found = explain(model, x)
    assert list(found) == ["attention", "attention#1", "attention#2"]
    assert [m.call for m in found.values()] == [0, 1, 2]
    assert not torch.equal(found["attention"].tensor, found["attention#2"].tensor)


@pytest.mark.parametrize("how", ["whole", "part", "in place"])
def test_compiled_models_are_explained(how):
    model, x = build("non_local"), torch.randn(IMAGE)
    expected = explain(model, x)["attention"].tensor
    if how == "whole":
        compiled = torch.compile(model, backend="eager")
    elif how == "part":
        model.attention = torch.compile(model.attention, backend="eager")
        compiled = model
    else:
        model.compile(backend="eager")
        compiled = model
    with torch.no_grad():
        before = compiled(x)
        found = explain(compiled, x)
        assert list(found) == ["attention"]
        assert torch.equal(found["attention"].tensor, expected)
        assert torch.equal(compiled(x), before)


def test_nothing_stays_behind():
    model = Net(regard.create("cbam", 16, reduction=4)).train()
    model.stem.register_forward_hook(lambda stem, args, y: y + torch.rand_like(y))
    model.stem.eval()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state, flags = torch.get_rng_state(), [m.training for m in model.modules()]
    entries = {name: t.clone() for name, t in model.state_dict().items()}
    explain(model, torch.ones(IMAGE))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(entries[name], t) for name, t in model.state_dict().items())
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert after == hooks and sum(hooks) == 1


def test_nothing_stays_behind_when_the_model_fails():
    model = Net(regard.create("se", 16, reduction=4)).train()
    with pytest.raises(RuntimeError, match="channels"):
        explain(model, torch.ones(1, 5, 8, 8))
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_gradients_flow_through_the_maps_when_asked():
    model, x = build("simam"), torch.randn(IMAGE)
    assert not explain(model, x)["attention"].tensor.requires_grad
    with_graph = explain(model, x, grad=True)["attention"].tensor
    (slope,) = torch.autograd.grad(with_graph.sum(), [model.stem.weight])
    assert slope.abs().sum() > 0


def test_only_the_wanted_maps_are_read():
    model = nn.Sequential(*(regard.create("simam") for _ in range(3)))
    x = torch.randn(1, 4, 5, 5)
    assert list(explain(model, x, only="1")) == ["1"]
    assert list(explain(model, x, only=["[12]"])) == ["1", "2"]
    with pytest.raises(ValueError, match="no attention at 'layer'; there are 0, 1, 2"):
        explain(model, x, only="layer")


def test_a_model_without_attention_is_told_how_to_get_some():
    with pytest.raises(ValueError, match=r"Linear has no attention to explain: .*regard\.insert"):
        explain(nn.Linear(3, 3), torch.ones(1, 3))


def test_attention_that_does_not_run_is_named():
    with pytest.raises(ValueError, match="none of the mechanisms ran: 'attention'"):
        explain(Net(regard.create("simam"), times=0), torch.ones(IMAGE))


def test_inserted_attention_is_explained():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    model = regard.insert(model, "cbam", at="0", example_input=torch.ones(IMAGE))
    found = explain(model, torch.randn(IMAGE))
    (path,) = {m.path for m in found.values()}
    assert path.startswith("0.attention")
    assert type(model.get_submodule(path)).__name__ == "CBAM"


def test_planes_keep_their_places():
    a = torch.rand(2, 1, 4, 6)
    assert torch.equal(one("b 1 h w", a).heat(), a[:, 0])
    assert torch.equal(one("b o y x", a).heat(), a[:, 0])
    assert one("b 1 h w", a).heat((8, 12)).shape == (2, 8, 12)
    many = torch.rand(2, 5, 4, 6)
    assert torch.equal(one("b c h w", many).heat(), many.mean(1))
    assert torch.equal(one("b c h w", many).heat(c=3), many[:, 3])
    strip = one("b c 1 w", torch.rand(2, 5, 1, 6)).heat((4, 6))
    assert torch.equal(strip, strip[:, :1].expand(-1, 4, -1))


def test_a_query_shows_what_it_attends_to():
    n = 4 * 6
    a = torch.eye(n).roll(1, 1)[None]  # each position attends to the next
    pairs = one("b n n", a, range="softmax", grid=(4, 6))
    assert pairs.heat(query=(1, 2))[0].argmax() == 1 * 6 + 3
    assert pairs.heat(query=5)[0].argmax() == 6
    assert pairs.heat()[0].argmax() == 2 * 6 + 3 + 1
    assert torch.allclose(pairs.heat(query="all"), torch.full((1, 4, 6), 1 / n))
    with pytest.raises(ValueError, match="no place \\(4, 0\\) in a grid of 4 × 6"):
        pairs.heat(query=(4, 0))
    with pytest.raises(ValueError, match="no query 24; there are 0 to 23"):
        pairs.heat(query=24)


def test_offsets_are_shown_by_their_length():
    a = torch.zeros(1, 1, 9, 2, 4, 6)
    a[..., 1, 2] = torch.tensor([3.0, 4.0])
    heat = AttentionMap("", "", 0, "X", "b g k 2 y x", a, "offset", (1, 8, 4, 6), (4, 6)).heat()
    assert heat[0, 1, 2] == 5 and heat.sum() == 5


def test_queries_in_rows_and_columns_are_asked_for_by_place():
    module = regard.create("pointwise_spatial", 8, mask_size=(7, 11), mode="collect", stride=1)
    one = explain(module.eval(), torch.randn(1, 8, 4, 6))[""]
    assert one.axes == "b n m" and one.grid == (4, 6)
    assert torch.equal(one.heat(query=(1, 2)), one.tensor[:, 1 * 6 + 2].reshape(1, 4, 6))


def test_heads_are_averaged_or_chosen():
    a = torch.rand(2, 3, 6, 6)
    heads = one("b heads n m", a, range="softmax", grid=(2, 3))
    assert torch.allclose(heads.heat(query=4), a.mean(1)[:, 4].reshape(2, 2, 3))
    assert torch.equal(heads.heat(query=4, heads=2), a[:, 2, 4].reshape(2, 2, 3))
    with pytest.raises(ValueError, match="no heads = 3 in \\(b heads n m\\)"):
        heads.heat(heads=3)
    with pytest.raises(ValueError, match="no head = 0"):
        heads.heat(head=0)


def test_an_axis_that_sums_to_one_is_not_averaged():
    a = torch.tensor([[3.0, 0, 0], [0, 3, 0], [0, 3, 0], [0, 3, 0]])  # four places, three slots
    slots = one("b n s", a.softmax(-1)[None], range="softmax", grid=(2, 2))
    heat = slots.heat()
    assert heat.std() > 0.1
    assert torch.equal(heat, slots.heat(s=0)) or torch.equal(heat, slots.heat(s=1))


def test_pooled_keys_lie_on_a_coarser_grid():
    a = torch.rand(1, 4 * 6, 2 * 3)
    pairs = one("b n m", a, range="softmax", grid=(4, 6))
    assert torch.equal(pairs.heat(query=7), a[:, 7].reshape(1, 2, 3))


def test_appended_keys_have_no_place():
    a = torch.rand(1, 6, 7)
    pairs = one("b n m", a, range="softmax", grid=(2, 3))
    assert torch.equal(pairs.heat(query=0), a[:, 0, :6].reshape(1, 2, 3))


@pytest.mark.parametrize("prefix", [0, 1])
def test_tokens_find_their_place_in_the_image(prefix):
    model = Tokens(regard.create("multi_head", 16, num_heads=4), prefix=prefix)
    found = explain(model, torch.randn(2, 3, 12, 8))["attention"]
    assert (found.axes, found.grid) == ("b heads n m", (6, 4))
    assert found.position() == prefix + 3 * 4 + 2
    own = found.tensor.mean(1)[:, prefix, prefix:].reshape(2, 6, 4)
    assert torch.allclose(found.heat(query=(0, 0)), own)


def test_tokens_that_cannot_be_laid_out_have_no_place():
    assert lay_out(7, 1.0) is None
    found = explain(regard.create("multi_head", 16, num_heads=4), torch.randn(1, 7, 16))[""]
    assert not found.spatial
    with pytest.raises(ValueError, match="has no positions in an image"):
        found.heat()


@pytest.mark.parametrize(
    ("axes", "shape", "form"),
    [
        ("b c 1 1", (2, 5, 1, 1), "bars"),
        ("b c", (2, 5), "bars"),
        ("b k c 1 1", (2, 3, 5, 1, 1), "matrix"),
        ("b c c", (2, 5, 5), "matrix"),
        ("b 1 h w", (2, 1, 4, 4), "plane"),
        ("b t h w", (2, 3, 4, 4), "plane"),
        ("b n n", (2, 4, 4), "pairs"),
        ("b n s", (2, 4, 3), "tokens"),
    ],
)
def test_forms(axes, shape, form):
    found = one(axes, torch.rand(shape))
    assert found.form == form
    assert found.spatial == (form == "plane")
    assert one("b h w 2", torch.rand(1, 3, 3, 2), range="offset").form == "sampling"


def test_the_summary_tells_the_truth():
    found = explain(build("non_local"), torch.randn(IMAGE))
    facts = json.loads(json.dumps(found.to_dict()))["attention"]
    a = found["attention"].tensor
    assert facts["shape"] == list(a.shape) == [2, 120, 30]
    assert facts["mean"] == pytest.approx(1 / 30)
    assert facts["entropy"] == pytest.approx(-(a * a.log()).sum(-1).mean().item(), rel=1e-4)
    assert explain(build("simam"), torch.randn(IMAGE)).to_dict()["attention"]["entropy"] is None
    lines = found.table().splitlines()
    assert len(lines) == 2 and lines[1].startswith("attention  NonLocal   b n m")


def test_a_missing_map_is_named():
    with pytest.raises(KeyError, match="no map 'x'; there are 'attention'"):
        explain(build("simam"), torch.randn(IMAGE))["x"]


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("image", [True, False])
def test_every_mechanism_can_be_drawn(name, image, tmp_path):
    found = explain(build(name), torch.randn(IMAGE))
    found.image = found.image if image else None
    figure = found.figure()
    figure.savefig(tmp_path / "maps.png", dpi=30)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    panels = 1 if name == "coordinate" else len(found)
    assert len(titles) == 2 * (panels + image)
    assert any("attention" in title for title in titles)


def test_any_kind_of_image_is_shown():
    found = explain(build("simam"), torch.randn(1, 3, 12, 10))
    for image in (
        torch.rand(1, 12, 10),
        torch.randint(0, 255, (12, 10, 3), dtype=torch.uint8).numpy(),
        torch.rand(12, 10).numpy(),
    ):
        shown = found.figure(image).axes[0].images[0].get_array()
        assert shown.shape[:2] == (12, 10)
        assert (shown.min(), shown.max()) == (0, 1)


def test_the_query_is_marked_where_it_is():
    found = explain(build("dual_attention"), torch.randn(1, 3, 12, 10), only="attention")
    axes = next(a for a in found.figure(query=(3, 4)).axes if "position" in a.get_title())
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines] == [(4, 3)] * 2
    axes = next(a for a in found.figure(query="all").axes if "position" in a.get_title())
    assert not axes.lines


def test_colors_span_the_range_unless_stretched():
    x = torch.randn(1, 3, 12, 10)
    found = explain(build("cbam"), x, only="attention")

    def limits(stretch):
        axes = next(a for a in found.figure(stretch=stretch).axes if "spatial" in a.get_title())
        return axes.images[-1].get_clim()

    assert limits(False) == (0, 1)
    low, high = limits(True)
    assert 0 < low < high < 1


def test_no_picture_is_made_of_noise():
    flat = torch.full((1, 1, 4, 4), 0.5) + 1e-4 * torch.rand(1, 1, 4, 4)
    from regard.explanation.drawing import draw

    figure = draw([one("b 1 h w", flat, range="unit")])
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_pictures_that_do_not_fit_are_refused():
    found = explain(build("simam"), torch.randn(IMAGE))
    with pytest.raises(ValueError, match="3 images for maps of 2"):
        found.figure(torch.rand(3, 3, 12, 10))
    with pytest.raises(ValueError, match="with 1 or 3 channels, got \\(2, 4, 12, 10\\)"):
        found.figure(torch.rand(2, 4, 12, 10))
    with pytest.raises(ValueError, match="0 rows"):
        found.figure(rows=0)


def test_figures_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "regard\[compare\]"'):
        explain(build("simam"), torch.randn(IMAGE)).figure()


def test_a_notebook_shows_the_figure_and_the_table_without_pyplot():
    found = explain(regard.create("simam"), torch.randn(1, 8, 6, 6))
    assert found.figure()._repr_png_().startswith(b"\x89PNG")
    assert found._repr_html_().startswith("<table>")


def test_a_tap_that_runs_outside_of_every_mechanism_is_refused():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = regard.create("simam")

        def forward(self, x):
            return self.gate.combine(self.gate.tap(self.gate.attention(x)), x)

    with pytest.raises(ValueError, match="'gate': its tap ran, but neither it"):
        explain(Around(), torch.randn(1, 4, 5, 5))
