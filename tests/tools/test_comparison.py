import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision import datasets

import regard
from regard.cli.compare import compare as command
from regard.comparison import compare, figures, training
from regard.comparison.data import labels, load
from regard.comparison.ledger import Ledger
from regard.comparison.progress import Watch
from regard.comparison.runs import accelerators
from regard.comparison.statistics import paired
from regard.comparison.training import Draw, Recipe
from regard.comparison.variants import Adapter, build, control_of, inserted, parameters, parse

SMALL = dict(backbone="test_resnet", size=16, train_samples=40, epochs=2, seeds=2, quiet=True)
RECIPE = Recipe(
    backbone="test_resnet",
    at="residual",
    start="paper",
    data="digits",
    checksum="",
    size=16,
    channels=1,
    classes=10,
    train=40,
    validation=599,
    epochs=2,
    batch_size=16,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    warmup=0.1,
    smoothing=0.0,
    shift=0.125,
    flip=False,
    precision="no",
    device="cpu",
    threads=1,
)


def lines(folder, kind="run"):
    return Ledger(Path(folder) / "results.jsonl").read(kind)


def outcome(folder):
    """Everything in the runs but the time they took."""
    return {
        (run["variant"], run["seed"]): (run["curve"], run["backbone"], run["batches"])
        for run in lines(folder)
    }


@pytest.fixture
def unmeasured(monkeypatch):
    """Costs without the seconds that a latency takes."""
    cost = SimpleNamespace(
        params=1, macs=2, elementwise=3, latency=SimpleNamespace(median=1e-3, iqr=1e-4)
    )
    monkeypatch.setattr("regard.comparison.runs.measure", lambda *_, **__: cost)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One small comparison, as a user makes it."""
    return compare("se,cbam", out=tmp_path_factory.mktemp("done"), **SMALL)


# What is compared


def test_attentions_are_read_with_their_options():
    text = 'SENet, cbam(pools=("mean", "max"), reduction=4)'
    keys = ["none", "squeeze_excitation", "cbam(pools=('mean', 'max'),reduction=4)"]
    assert [v.key for v in parse(text)] == keys
    assert [v.key for v in parse(["none", "se", 'cbam(reduction=4,pools=("mean","max"))'])] == keys


@pytest.mark.parametrize(
    ("attention", "said"),
    [
        ("cbamm", "did you mean"),
        ("se,squeeze_excitation", "are the same"),
        ("se(reduction=4),se(reduction=4)", "are the same"),
        ("se(4)", "cannot read"),
        ("se(reduction=open('x'))", "cannot read"),
        ("se(reduction=4", "cannot read"),
        ("se,,eca", "empty name"),
    ],
)
def test_attentions_that_cannot_be_meant_are_refused(attention, said):
    with pytest.raises(ValueError, match=said):
        parse(attention)


def test_variants_of_a_seed_share_every_backbone_weight():
    none, se, cbam, simam = parse("se,cbam,simam")
    plain, checksum = build(none, RECIPE, seed=3)
    weights = plain.state_dict()
    for variant in (se, cbam, simam, replace(cbam, control=True)):
        model, same = build(variant, RECIPE, seed=3)
        assert same == checksum
        assert inserted(model) or variant.control
        assert all(torch.equal(model.state_dict()[name], x) for name, x in weights.items())
    assert build(none, RECIPE, seed=4)[1] != checksum


def test_a_seed_draws_the_same_attention_whatever_was_drawn_before():
    variant = parse("se")[1]
    first = build(variant, RECIPE, seed=1)[0].state_dict()
    torch.rand(7)
    again, other = (build(variant, RECIPE, seed=s)[0].state_dict() for s in (1, 2))
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert any(not torch.equal(x, other[name]) for name, x in first.items() if "squeeze" in name)


def test_building_leaves_the_random_numbers_alone():
    before = torch.random.get_rng_state()
    build(parse("se")[1], RECIPE, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_control_has_as_many_parameters_as_the_largest_attention():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("se,eca,cbam")}
    control = control_of(models)
    assert control is not None
    assert control.key == "control(cbam)"
    plain, *_, cbam = map(parameters, models.values())
    model = build(control, RECIPE, seed=0)[0]
    adapters = [module for module in model.modules() if isinstance(module, Adapter)]
    assert adapters
    assert not inserted(model)
    channels = sum(a.squeeze.in_features for a in adapters)
    assert abs(parameters(model) - cbam) <= channels  # half of the narrowest step at each place
    assert parameters(model) - plain == parameters(*adapters)


def test_an_adapter_of_se_has_exactly_its_parameters():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("se")}
    control = control_of(models)
    assert control is not None
    _, se = models.values()
    assert parameters(build(control, RECIPE, seed=0)[0]) == parameters(se)


def test_there_is_no_control_of_almost_nothing():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("eca,simam")}
    assert control_of(models) is None


def test_the_control_learns_in_tokens_too():
    recipe = replace(RECIPE, backbone="test_vit", size=64, at="block")
    models = {variant: build(variant, recipe, seed=0)[0] for variant in parse("se")}
    control = control_of(models)
    assert control is not None
    model = build(control, recipe, seed=0)[0]
    model(torch.randn(2, 1, 64, 64)).sum().backward()
    assert all(
        p.grad is not None
        for m in model.modules()
        if isinstance(m, Adapter)
        for p in m.parameters()
    )


# The pictures


def test_digits_are_split_once_and_for_all():
    data = load("digits")
    train, validation = labels(data.train), labels(data.validation)
    assert (len(train), len(validation)) == (1198, 599)
    counts = [validation.count(digit) for digit in range(10)]
    assert max(counts) - min(counts) <= 4
    pixels = {tuple(x.flatten().tolist()) for x, _ in data.train}
    assert not any(tuple(x.flatten().tolist()) in pixels for x, _ in data.validation)
    assert data.checksum == load("digits").checksum != load("digits", size=16).checksum


def test_normalized_training_images_have_mean_zero_and_deviation_one():
    data = load("digits", train_samples=200)
    x = data.normalize(torch.stack([x for x, _ in data.train]))
    assert abs(x.mean().item()) < 1e-5
    assert abs(x.std().item() - 1) < 1e-3


def picture(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), color).save(path)


@pytest.fixture
def folder(tmp_path):
    for kind, color in (("cat", "red"), ("dog", "blue")):
        for i in range(10):
            picture(tmp_path / kind / f"{i}.png", color)
    return tmp_path


def test_a_folder_without_split_is_split(folder):
    data = load(f"folder:{folder}")
    assert (len(data.train), len(data.validation)) == (16, 4)
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 12, 12)
    assert not {*data.train.indices} & {*data.validation.indices}


def test_a_folder_with_a_split_keeps_it(folder, tmp_path):
    root = tmp_path / "split"
    for half, count in (("train", 3), ("val", 2)):
        for kind in ("cat", "dog"):
            for i in range(count):
                picture(root / half / kind / f"{i}.png", "red")
    data = load(f"folder:{root}", size=8)
    assert (len(data.train), len(data.validation), data.shape) == (6, 4, (3, 8, 8))


def test_a_folder_that_cannot_be_used_says_why(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        load(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="one folder of images per class"):
        load(f"folder:{tmp_path}")
    picture(tmp_path / "train" / "cat" / "0.png", "red")
    with pytest.raises(ValueError, match="none of val"):
        load(f"folder:{tmp_path}")
    picture(tmp_path / "val" / "dog" / "0.png", "red")
    with pytest.raises(ValueError, match="must be two"):
        load(f"folder:{tmp_path}")
    picture(tmp_path / "train" / "cow" / "0.png", "red")
    with pytest.raises(ValueError, match="only one of the two splits: cat, cow, dog"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("there", [True, False])
def test_a_torchvision_set_is_downloaded_only_if_absent(monkeypatch, there):
    asked = []

    class Fake(datasets.FakeData):
        def __init__(self, root, train=True, transform=None, download=False):
            asked.append(download)
            if not there and not download:
                raise RuntimeError("Dataset not found. You can use download=True to download it")
            super().__init__(30 if train else 12, (3, 10, 10), 3, transform)

    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    data = load("torchvision:CIFAR10")
    assert (len(data.train), len(data.validation), data.shape) == (30, 12, (3, 10, 10))
    assert any(asked) is not there


# The batches


def test_a_draw_depends_on_seed_and_epoch_alone():
    first = Draw.of(RECIPE, 1, 1)
    torch.rand(5)
    assert Draw.of(RECIPE, 1, 1).checksum() == first.checksum()
    others = [Draw.of(RECIPE, 1, 2), Draw.of(RECIPE, 2, 1)]
    assert all(other.checksum() != first.checksum() for other in others)


def test_variants_of_a_seed_see_the_same_batches(monkeypatch, unmeasured, tmp_path):
    seen, make = [], training.batches

    def watched(*args):
        for x, y in make(*args):
            seen.append(x.clone())
            yield x, y

    monkeypatch.setattr(training, "batches", watched)
    compare("se,simam", out=tmp_path, **SMALL | dict(seeds=1, epochs=1), control=False)
    plain, se, simam = seen[:2], seen[2:4], seen[4:]
    assert len(simam) == 2
    assert all(map(torch.equal, plain, se))
    assert all(map(torch.equal, plain, simam))
    assert not torch.equal(*(x[:8] for x in plain))


def test_images_are_moved_each_by_its_own_shift():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
    down, left = training.moved(x, torch.tensor([[0, 1], [1, 2]]), 1)[:, 0]
    assert down.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert left.tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]


def test_what_the_model_draws_depends_on_seed_and_epoch_alone():
    data = load("digits", size=16, train_samples=40)
    curves = []
    for _ in range(2):
        torch.rand(3)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(256, 10, bias=False)
        )
        torch.nn.init.ones_(model[2].weight)
        with accelerators("cpu", None) as make:
            curves.append(training.train(model, data, RECIPE, 0, make(), lambda _: None))
    assert curves[0] == curves[1]


def test_no_batch_has_a_single_image():
    recipe = replace(RECIPE, train=33, batch_size=16)
    assert len(Draw.of(recipe, 0, 1).order) == 32


# The numbers


def test_the_paired_interval_is_students():
    # 4.302653 is the 97.5 % point of t with 2 degrees of freedom; deviation 1, three pairs
    difference = paired([0.05, 0.06, 0.07], [0.04, 0.04, 0.04])
    reach = 4.302653 * 0.01 / 3**0.5
    assert difference.mean == pytest.approx(0.02)
    assert difference.interval == pytest.approx((0.02 - reach, 0.02 + reach), rel=1e-6)
    assert difference.verdict == "no difference seen"
    assert paired([0.5, 0.51, 0.52], [0.4, 0.4, 0.4]).verdict == "better by 11.0 points"
    assert paired([0.4, 0.4, 0.4], [0.5, 0.51, 0.52]).verdict == "worse by 11.0 points"


def test_what_cannot_be_said_is_not_said():
    assert paired([0.9], [0.8]).interval is None
    assert paired([0.9], [0.8]).verdict == "one seed: cannot say"
    assert paired([0.9, 0.8], [0.9, 0.8]).verdict == "the same in every seed"
    assert paired([0.9, 0.8], [0.8, 0.7]).verdict == "no spread: cannot say"
    with pytest.raises(ValueError, match="pairs wanted"):
        paired([0.9], [0.8, 0.7])


# The ledger


def test_a_torn_line_is_dropped_and_what_follows_is_kept(tmp_path):
    ledger = Ledger(tmp_path / "results.jsonl")
    ledger.add("run", seed=0)
    ledger.path.write_bytes(ledger.path.read_bytes() + b'{"kind": "run", "se')
    assert (ledger.read("run"), ledger.torn) == ([{"seed": 0}], 1)
    ledger.add("run", seed=2)
    assert (ledger.read("run"), ledger.torn) == ([{"seed": 0}, {"seed": 2}], 1)


def test_many_may_write_at_once(tmp_path):
    path = tmp_path / "results.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: Ledger(path).add("run", seed=i, text="x" * 5000), range(100)))
    ledger = Ledger(path)
    assert sorted(line["seed"] for line in ledger.read("run")) == list(range(100))
    assert ledger.torn == 0


# All of it


def test_a_comparison_says_who_did_what(done):
    assert [row.label for row in done.rows] == ["none", "se", "cbam", "control (cbam)"]
    assert len(done.runs) == 8
    assert done.paired
    assert done.rows[0].difference is None
    assert all(row.difference and len(row.difference.values) == 2 for row in done.rows[1:])
    assert all(row.params and row.macs and row.latency for row in done.rows)
    assert len(done.table().splitlines()) == 5
    assert json.loads(json.dumps(done.to_dict()))["rows"][1]["label"] == "se"


def test_each_run_keeps_its_learning_curve(done):
    for run in done.runs:
        assert [point["epoch"] for point in run["curve"]] == [1, 2]
        assert run["curve"][-1]["accuracy"] == run["accuracy"]
        assert (run["accuracy"] * 599).is_integer()


def test_the_same_call_trains_nothing_twice(done, unmeasured):
    before = done.ledger.read_bytes()
    again = compare("se,cbam", out=done.ledger.parent, **SMALL)
    assert done.ledger.read_bytes() == before
    assert again.to_dict() == done.to_dict()


def test_the_same_run_gives_the_same_bits(done, unmeasured, tmp_path):
    torch.rand(3)
    compare("cbam", out=tmp_path, **SMALL)
    mine, its = outcome(tmp_path), outcome(done.ledger.parent)
    assert len(mine) == 6
    assert all(its[key] == value for key, value in mine.items())


def test_only_lost_runs_are_done_again(unmeasured, tmp_path):
    compare("se", out=tmp_path, control=False, **SMALL)
    path = tmp_path / "results.jsonl"
    whole, all_of_it = outcome(tmp_path), path.read_bytes()
    path.write_bytes(all_of_it[:-30])
    compare("se", out=tmp_path, control=False, **SMALL)
    assert path.read_bytes().startswith(all_of_it[:-30])
    assert outcome(tmp_path) == whole
    assert len(lines(tmp_path)) == 4


def test_attentions_and_seeds_can_be_added_and_nothing_else(unmeasured, tmp_path):
    compare("se", out=tmp_path, control=False, **SMALL | dict(seeds=1))
    before = (tmp_path / "results.jsonl").read_bytes()
    more = compare("eca,se", out=tmp_path, control=False, **SMALL)
    assert (tmp_path / "results.jsonl").read_bytes().startswith(before)
    assert (len(lines(tmp_path)), len(more.rows)) == (6, 3)
    with pytest.raises(ValueError, match=r"epochs was 2 and is now 3; lr was 0\.001 and is now"):
        compare("se", out=tmp_path, **SMALL | dict(epochs=3, lr=0.01))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(attention="cbamm"), "did you mean"),
        (dict(attention="se(reductoin=4)"), 'no option "reductoin"'),
        (dict(attention="selective_kernel"), "convolution"),
        (dict(backbone="resnt18"), "close are resnet18"),
        (dict(backbone="torchvision/resnt18"), "close are resnet18"),
        (dict(data="digit"), 'no data "digit"'),
        (dict(data="folder:/no/such"), "no folder /no/such"),
        (dict(data="torchvision:CIFAR11"), "did you mean CIFAR10"),
        (dict(data="torchvision:FakeData"), "training and a test half"),
        (dict(epochs=0), "epochs must be a positive integer"),
        (dict(seeds=0), "seeds must be a positive integer"),
        (dict(train_samples=3), "train_samples must be 10"),
        (dict(lr=0.0), "lr must be above zero"),
        (dict(optimizer="adamv"), "close are"),
        (dict(precision="half"), "precision must be one of"),
        (dict(at="nowhere.*"), "nothing matches"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(change, said, tmp_path):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        compare(**dict(attention="se", out=tmp_path / "out", **SMALL) | change)
    assert not (tmp_path / "out").exists()


def test_torch_is_left_as_it_was(unmeasured, tmp_path):
    torch.set_num_threads(2)
    before = torch.random.get_rng_state()
    compare("simam", out=tmp_path, **SMALL | dict(epochs=1, seeds=1))
    assert torch.get_num_threads() == 2
    assert torch.equal(before, torch.random.get_rng_state())


def test_precision_can_change_between_calls(unmeasured, tmp_path):
    small = SMALL | dict(epochs=1, seeds=1)
    full = compare("none", out=tmp_path / "no", **small)
    half = compare("none", out=tmp_path / "bf16", precision="bf16", **small)
    assert (full.recipe.precision, half.recipe.precision) == ("no", "bf16")
    assert full.runs[0]["curve"] != half.runs[0]["curve"]


def test_torchvision_backbones_get_three_channels(unmeasured, tmp_path):
    small = SMALL | dict(epochs=1, seeds=1, backbone="torchvision/shufflenet_v2_x0_5", size=32)
    found = compare("simam", out=tmp_path, at="conv5", **small)
    assert found.recipe.channels == 3


def test_progress_is_told_in_lines_where_there_is_no_terminal(unmeasured, tmp_path, capsys):
    compare("none", out=tmp_path, **SMALL | dict(quiet=False))
    told = capsys.readouterr()
    assert re.search(r"2/2  none, seed 1  \d+\.\d\d %  about 0:00 left", told.err)
    assert not told.out


def test_quiet_says_nothing(unmeasured, tmp_path, capfd):
    compare("none", out=tmp_path, **SMALL | dict(seeds=1))
    told = capfd.readouterr()
    assert not told.out
    assert "seed" not in told.err


def test_a_terminal_gets_bars_with_the_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    finished = iter([0, 0, 1, 1])
    with Watch(1, 2, lambda: next(finished)) as watch:
        watch.run("se, seed 0")
        watch.epoch({"epoch": 1, "accuracy": 0.5})
        watch.over(0.9)
    told = capsys.readouterr().err
    assert "runs" in told
    assert "left" in told


# The page


def test_the_report_needs_nothing_but_itself(done):
    page = done.report.read_text("utf-8")
    assert '<html lang="en">' in page
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"https?:|@import|url\(|<link|src=\"(?!data:)", markup)
    pictures = re.findall(r"<img [^>]*>", markup)
    assert pictures
    assert all(re.search(r'alt="[^"]+"', tag) for tag in pictures)
    assert "$" not in markup
    for row in done.rows:
        assert row.label in markup


def test_the_page_draws_every_figure(done):
    page = done.report.read_text("utf-8")
    drawn = json.loads(re.search(r"const figures = (.*);\n", page)[1])
    for name in drawn:
        assert f'id="{name}"' in page


@pytest.mark.parametrize("name", ["forest", "params", "accuracy"])
def test_figures_are_what_plotly_reads(done, name):
    from plotly import graph_objects

    drawn = dict(
        forest=figures.forest(done),
        params=figures.against(done, "params", "parameters", 1.0),
        accuracy=figures.curves(done, "accuracy", "accuracy"),
    )[name]
    graph_objects.Figure(drawn).to_json()  # it refuses what plotly would ignore


def test_names_of_classes_cannot_break_the_page(folder, unmeasured, tmp_path):
    (folder / "cat").rename(folder / "<b>cat")
    out = tmp_path / "out"
    small = SMALL | dict(data=f"folder:{folder}", train_samples=None, seeds=1, size=32)
    page = compare("simam", out=out, **small).report.read_text("utf-8")
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat" in page


def test_runs_that_are_not_paired_are_called_so(done):
    broken = ({**done.runs[0], "batches": "0"}, *done.runs[1:])
    assert not replace(done, runs=broken).paired


# The command


def test_the_command_has_the_options_and_defaults_of_the_function():
    ours = inspect.signature(compare).parameters
    its = inspect.signature(command).parameters
    assert its.keys() - ours.keys() == {"json", "processes"}
    assert not ours.keys() - its.keys()
    for name, parameter in ours.items():
        default = parameter.default
        wanted = ",".join(default) if isinstance(default, tuple) else default
        assert str(its[name].default) == str(wanted), name


def start(*words, out, launcher=("regard", "compare")):
    """Start the command on something small."""
    small = ["--backbone=test_resnet", "--size=16", "--train-samples=40", "--quiet"]
    call = [sys.executable, "-m", *launcher, *small, *words, f"--out={out}"]
    environment = os.environ | {"PYTHONPATH": str(Path(regard.__file__).parents[1])}
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_loses_no_finished_run(tmp_path):
    words = ("--attention=se,simam", "--seeds=3", "--epochs=2")
    process = start(*words, out=tmp_path)
    until = time.monotonic() + 200
    while len(lines(tmp_path)) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = lines(tmp_path)
    assert 2 <= len(before) < 12
    process = start(*words, out=tmp_path)
    told, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"report: {tmp_path / 'report.html'}" in told
    assert lines(tmp_path)[: len(before)] == before
    assert len(outcome(tmp_path)) == len(lines(tmp_path)) == 12


@pytest.mark.slow
def test_two_processes_share_the_runs_and_give_the_numbers_of_one(tmp_path):
    words = ("--attention=se", "--seeds=2", "--epochs=2")
    for processes in ("1", "2"):
        process = start(*words, f"--processes={processes}", out=tmp_path / processes)
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert outcome(tmp_path / "1") == outcome(tmp_path / "2")
    assert len(lines(tmp_path / "2")) == 6
    assert (tmp_path / "2" / "report.html").exists()


@pytest.mark.slow
def test_accelerate_launches_it(tmp_path):
    settings = "--cpu --num_processes=2 --num_machines=1 --mixed_precision=no --dynamo_backend=no"
    launcher = ("accelerate.commands.launch", *settings.split(), "-m", "regard", "compare")
    process = start("--attention=simam", "--seeds=1", out=tmp_path, launcher=launcher)
    process.communicate(timeout=300)
    assert process.returncode == 0
    assert {run["variant"] for run in lines(tmp_path)} == {"none", "simam"}
