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
from typing import Any, cast

import pytest
import torch
from PIL import Image
from torch.utils.data import Subset
from torchvision import datasets

import regard
from regard.cli.compare import compare as command
from regard.comparison import compare, figures, training
from regard.comparison.data import labels_of, load
from regard.comparison.progress import Progress
from regard.comparison.results_log import ResultsLog
from regard.comparison.runs import accelerator_factory
from regard.comparison.statistics import paired_difference
from regard.comparison.training import EpochPlan, Recipe
from regard.comparison.variants import (
    Adapter,
    build,
    count_parameters,
    inserted_mechanisms,
    make_control,
    parse,
)

SMALL: dict[str, Any] = dict(
    backbone="test_resnet", size=16, train_samples=40, epochs=2, seeds=2, quiet=True
)
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


def small_with(**options: Any) -> dict[str, Any]:
    return SMALL | options


def lines(folder, kind="run"):
    return ResultsLog(Path(folder) / "results.jsonl").read(kind)


def outcome(folder):
    """Return everything in the runs except their duration."""
    return {
        (run["variant"], run["seed"]): (run["curve"], run["backbone"], run["batches"])
        for run in lines(folder)
    }


@pytest.fixture
def unmeasured(monkeypatch):
    """Replace the measurement of costs, which takes seconds, by constants."""
    cost = SimpleNamespace(
        params=1, macs=2, elementwise=3, latency=SimpleNamespace(median=1e-3, iqr=1e-4)
    )
    monkeypatch.setattr("regard.comparison.runs.measure", lambda *_, **__: cost)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run one small comparison as a user would."""
    return compare("se,cbam", out=tmp_path_factory.mktemp("done"), **SMALL)


# Variants


def test_attentions_are_parsed_with_their_options():
    text = 'SENet, cbam(pools=("mean", "max"), reduction=4)'
    keys = ["none", "squeeze_excitation", "cbam(pools=('mean', 'max'),reduction=4)"]
    assert [v.key for v in parse(text)] == keys
    assert [v.key for v in parse(["none", "se", 'cbam(reduction=4,pools=("mean","max"))'])] == keys


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ("cbamm", "did you mean"),
        ("se,squeeze_excitation", "are the same"),
        ("se(reduction=4),se(reduction=4)", "are the same"),
        ("se(4)", "cannot parse"),
        ("se(reduction=open('x'))", "cannot parse"),
        ("se(reduction=4", "cannot parse"),
        ("se,,eca", "empty name"),
    ],
)
def test_invalid_attentions_raise(attention, message):
    with pytest.raises(ValueError, match=message):
        parse(attention)


def test_variants_of_a_seed_share_every_backbone_weight():
    none, se, cbam, simam = parse("se,cbam,simam")
    plain, checksum = build(none, RECIPE, seed=3)
    weights = plain.state_dict()
    for variant in (se, cbam, simam, replace(cbam, control=True)):
        model, same = build(variant, RECIPE, seed=3)
        assert same == checksum
        assert inserted_mechanisms(model) or variant.control
        assert all(torch.equal(model.state_dict()[name], x) for name, x in weights.items())
    assert build(none, RECIPE, seed=4)[1] != checksum


def test_the_weights_of_an_attention_depend_on_the_seed_alone():
    variant = parse("se")[1]
    first = build(variant, RECIPE, seed=1)[0].state_dict()
    torch.rand(7)
    again, other = (build(variant, RECIPE, seed=s)[0].state_dict() for s in (1, 2))
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert any(not torch.equal(x, other[name]) for name, x in first.items() if "squeeze" in name)


def test_building_does_not_change_the_random_state():
    before = torch.random.get_rng_state()
    build(parse("se")[1], RECIPE, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_control_has_as_many_parameters_as_the_largest_attention():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("se,eca,cbam")}
    control = make_control(models)
    assert control is not None
    assert control.key == "control(cbam)"
    plain, *_, cbam = map(count_parameters, models.values())
    model = build(control, RECIPE, seed=0)[0]
    adapters = [module for module in model.modules() if isinstance(module, Adapter)]
    assert adapters
    assert [module for _, module in inserted_mechanisms(model)] == adapters
    channels = sum(a.squeeze.in_features for a in adapters)
    assert (
        abs(count_parameters(model) - cbam) <= channels
    )  # half of the smallest step of each adapter
    assert count_parameters(model) - plain == count_parameters(*adapters)


def test_an_adapter_of_se_has_exactly_its_parameters():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("se")}
    control = make_control(models)
    assert control is not None
    _, se = models.values()
    assert count_parameters(build(control, RECIPE, seed=0)[0]) == count_parameters(se)


def test_attentions_with_very_few_parameters_have_no_control():
    models = {variant: build(variant, RECIPE, seed=0)[0] for variant in parse("eca,simam")}
    assert make_control(models) is None


@pytest.mark.filterwarnings("ignore:SqueezeExcitation is left out")  # its last block
def test_the_control_learns_from_tokens_too():
    recipe = replace(RECIPE, backbone="test_vit", size=64, at="block")
    models = {variant: build(variant, recipe, seed=0)[0] for variant in parse("se")}
    control = make_control(models)
    assert control is not None
    model = build(control, recipe, seed=0)[0]
    model(torch.randn(2, 1, 64, 64)).sum().backward()
    assert all(
        p.grad is not None
        for m in model.modules()
        if isinstance(m, Adapter)
        for p in m.parameters()
    )


# Data


def test_the_split_of_the_digits_is_fixed():
    data = load("digits")
    train, validation = labels_of(data.train), labels_of(data.validation)
    assert (len(train), len(validation)) == (1198, 599)
    counts = [validation.count(digit) for digit in range(10)]
    assert max(counts) - min(counts) <= 4
    pixels = {tuple(x.flatten().tolist()) for x, _ in data.train}
    assert not any(tuple(x.flatten().tolist()) in pixels for x, _ in data.validation)
    assert data.checksum == load("digits").checksum != load("digits", size=16).checksum


def test_normalized_training_images_have_mean_zero_and_standard_deviation_one():
    data = load("digits", train_samples=200)
    x = data.normalize(torch.stack([x for x, _ in data.train]))
    assert abs(x.mean().item()) < 1e-5
    assert abs(x.std().item() - 1) < 1e-3


def save_image(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), color).save(path)


@pytest.fixture
def folder(tmp_path):
    for kind, color in (("cat", "red"), ("dog", "blue")):
        for i in range(10):
            save_image(tmp_path / kind / f"{i}.png", color)
    return tmp_path


def test_a_folder_without_a_split_is_split(folder):
    data = load(f"folder:{folder}")
    assert (len(data.train), len(data.validation)) == (16, 4)
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 12, 12)
    train, validation = cast(Subset, data.train), cast(Subset, data.validation)
    assert not {*train.indices} & {*validation.indices}


def test_a_folder_with_a_split_keeps_it(folder, tmp_path):
    root = tmp_path / "split"
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("cat", "dog"):
            for i in range(count):
                save_image(root / split / kind / f"{i}.png", "red")
    data = load(f"folder:{root}", size=8)
    assert (len(data.train), len(data.validation), data.shape) == (6, 4, (3, 8, 8))


def test_an_invalid_folder_raises_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        load(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(ValueError, match="one folder of images per class"):
        load(f"folder:{tmp_path}")
    save_image(tmp_path / "train" / "cat" / "0.png", "red")
    with pytest.raises(ValueError, match="none of val"):
        load(f"folder:{tmp_path}")
    save_image(tmp_path / "val" / "dog" / "0.png", "red")
    with pytest.raises(ValueError, match="must have two classes or more, got only cat"):
        load(f"folder:{tmp_path}")
    save_image(tmp_path / "train" / "cow" / "0.png", "red")
    with pytest.raises(ValueError, match="only one of the two splits: cat, cow, dog"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("exists", [True, False])
def test_a_torchvision_set_is_downloaded_only_if_absent(monkeypatch, exists):
    downloads = []

    class Fake(datasets.FakeData):
        def __init__(self, root, train=True, transform=None, download=False):
            downloads.append(download)
            if not exists and not download:
                raise RuntimeError("Dataset not found. You can use download=True to download it")
            super().__init__(30 if train else 12, (3, 10, 10), 3, transform)

    monkeypatch.setattr(datasets, "CIFAR10", Fake)
    data = load("torchvision:CIFAR10")
    assert (len(data.train), len(data.validation), data.shape) == (30, 12, (3, 10, 10))
    assert any(downloads) is not exists


# Batches


def test_an_epoch_plan_depends_on_seed_and_epoch_alone():
    first = EpochPlan.sample(RECIPE, 1, 1)
    torch.rand(5)
    assert EpochPlan.sample(RECIPE, 1, 1).checksum() == first.checksum()
    others = [EpochPlan.sample(RECIPE, 1, 2), EpochPlan.sample(RECIPE, 2, 1)]
    assert all(other.checksum() != first.checksum() for other in others)


def test_variants_of_a_seed_train_on_the_same_batches(monkeypatch, unmeasured, tmp_path):
    seen, make = [], training.training_batches

    def recorded(*args):
        for x, y in make(*args):
            seen.append(x.clone())
            yield x, y

    monkeypatch.setattr(training, "training_batches", recorded)
    compare("se,simam", out=tmp_path, **small_with(seeds=1, epochs=1), control=False)
    plain, se, simam = seen[:2], seen[2:4], seen[4:]
    assert len(simam) == 2
    assert all(map(torch.equal, plain, se))
    assert all(map(torch.equal, plain, simam))
    assert not torch.equal(*(x[:8] for x in plain))


def test_every_image_has_its_own_shift():
    x = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(2, 1, 1, 1)
    down, left = training.shift_images(x, torch.tensor([[0, 1], [1, 2]]), 1)[:, 0]
    assert down.tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert left.tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]


def test_random_numbers_of_the_model_depend_on_seed_and_epoch_alone():
    data = load("digits", size=16, train_samples=40)
    curves = []
    for _ in range(2):
        torch.rand(3)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(256, 10, bias=False)
        )
        torch.nn.init.ones_(model[2].weight)
        with accelerator_factory("cpu", None) as make:
            curves.append(training.train(model, data, RECIPE, 0, make(), lambda _: None))
    assert curves[0] == curves[1]


def test_no_batch_has_a_single_image():
    recipe = replace(RECIPE, train=33, batch_size=16)
    assert len(EpochPlan.sample(recipe, 0, 1).order) == 32


# Statistics


def test_the_paired_interval_is_that_of_students_t():
    # 4.302653 is the 97.5 % point of t with 2 degrees of freedom; deviation 1, three pairs
    difference = paired_difference([0.05, 0.06, 0.07], [0.04, 0.04, 0.04])
    half_width = 4.302653 * 0.01 / 3**0.5
    assert difference.mean == pytest.approx(0.02)
    assert difference.interval == pytest.approx((0.02 - half_width, 0.02 + half_width), rel=1e-6)
    assert difference.verdict == "no difference seen"
    assert paired_difference([0.5, 0.51, 0.52], [0.4, 0.4, 0.4]).verdict == "better by 11.0 points"
    assert paired_difference([0.4, 0.4, 0.4], [0.5, 0.51, 0.52]).verdict == "worse by 11.0 points"


def test_no_interval_without_several_seeds_or_spread():
    assert paired_difference([0.9], [0.8]).interval is None
    assert paired_difference([0.9], [0.8]).verdict == "one seed: cannot say"
    assert paired_difference([0.9, 0.8], [0.9, 0.8]).verdict == "the same in every seed"
    assert paired_difference([0.9, 0.8], [0.8, 0.7]).verdict == "no spread: cannot say"
    with pytest.raises(ValueError, match="as many values as baselines, got 1 and 2"):
        paired_difference([0.9], [0.8, 0.7])


# The results log


def test_an_incomplete_line_is_ignored_and_the_next_one_is_kept(tmp_path):
    log = ResultsLog(tmp_path / "results.jsonl")
    log.append("run", seed=0)
    log.path.write_bytes(log.path.read_bytes() + b'{"kind": "run", "se')
    assert (log.read("run"), log.num_truncated) == ([{"seed": 0}], 1)
    log.append("run", seed=2)
    assert (log.read("run"), log.num_truncated) == ([{"seed": 0}, {"seed": 2}], 1)


def test_several_threads_may_append_at_once(tmp_path):
    path = tmp_path / "results.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda i: ResultsLog(path).append("run", seed=i, text="x" * 5000), range(100))
        )
    log = ResultsLog(path)
    assert sorted(line["seed"] for line in log.read("run")) == list(range(100))
    assert log.num_truncated == 0


# The whole comparison


def test_a_comparison_has_a_row_for_each_variant(done):
    assert [row.label for row in done.rows] == ["none", "se", "cbam", "control (cbam)"]
    assert len(done.runs) == 8
    assert done.paired
    assert done.rows[0].difference is None
    assert all(row.difference and len(row.difference.values) == 2 for row in done.rows[1:])
    assert all(row.params and row.macs and row.latency for row in done.rows)
    assert len(done.table().splitlines()) == 5
    assert json.loads(json.dumps(done.to_dict()))["rows"][1]["label"] == "se"


def test_each_run_has_its_learning_curve(done):
    for run in done.runs:
        assert [point["epoch"] for point in run["curve"]] == [1, 2]
        assert run["curve"][-1]["accuracy"] == run["accuracy"]
        assert (run["accuracy"] * 599).is_integer()


def test_the_same_call_trains_no_run_twice(done, unmeasured):
    before = done.results_path.read_bytes()
    again = compare("se,cbam", out=done.results_path.parent, **SMALL)
    assert done.results_path.read_bytes() == before
    assert again.to_dict() == done.to_dict()


def test_a_repeated_run_has_identical_results(done, unmeasured, tmp_path):
    torch.rand(3)
    compare("cbam", out=tmp_path, **SMALL)
    new, old = outcome(tmp_path), outcome(done.results_path.parent)
    assert len(new) == 6
    assert all(old[key] == value for key, value in new.items())


@pytest.mark.slow  # trains several models
def test_only_lost_runs_are_repeated(unmeasured, tmp_path):
    compare("se", out=tmp_path, control=False, **SMALL)
    path = tmp_path / "results.jsonl"
    before, content = outcome(tmp_path), path.read_bytes()
    path.write_bytes(content[:-30])
    compare("se", out=tmp_path, control=False, **SMALL)
    assert path.read_bytes().startswith(content[:-30])
    assert outcome(tmp_path) == before
    assert len(lines(tmp_path)) == 4


@pytest.mark.slow  # trains several models
def test_attentions_and_seeds_can_be_added_and_nothing_else(unmeasured, tmp_path):
    compare("se", out=tmp_path, control=False, **small_with(seeds=1))
    before = (tmp_path / "results.jsonl").read_bytes()
    more = compare("eca,se", out=tmp_path, control=False, **SMALL)
    assert (tmp_path / "results.jsonl").read_bytes().startswith(before)
    assert (len(lines(tmp_path)), len(more.rows)) == (6, 3)
    with pytest.raises(ValueError, match=r"epochs was 2 and is now 3; lr was 0\.001 and is now"):
        compare("se", out=tmp_path, **small_with(epochs=3, lr=0.01))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(attention="cbamm"), "did you mean"),
        (dict(attention="se(reductoin=4)"), 'no option "reductoin"'),
        (dict(attention="selective_kernel"), "convolution"),
        (dict(backbone="resnt18"), "close are resnet18"),
        (dict(backbone="torchvision/resnt18"), "close are resnet18"),
        (dict(data="digit"), 'no data "digit"'),
        (dict(data="folder:/no/such"), "no folder /no/such"),
        (dict(data="torchvision:CIFAR11"), "did you mean CIFAR10"),
        (dict(data="torchvision:FakeData"), "training and a test split"),
        (dict(epochs=0), "epochs must be a positive integer"),
        (dict(seeds=0), "seeds must be a positive integer"),
        (dict(train_samples=3), "train_samples must be 10"),
        (dict(lr=0.0), "lr must be above zero"),
        (dict(optimizer="adamv"), "close are"),
        (dict(precision="half"), "precision must be one of"),
        (dict(at="nowhere.*"), "nothing matches"),
    ],
)
def test_invalid_arguments_raise_before_anything_is_written(change, message, tmp_path):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        compare(**dict(attention="se", out=tmp_path / "out", **SMALL) | change)
    assert not (tmp_path / "out").exists()


def test_the_state_of_torch_is_restored(unmeasured, tmp_path):
    torch.set_num_threads(2)
    before = torch.random.get_rng_state()
    compare("simam", out=tmp_path, **small_with(epochs=1, seeds=1))
    assert torch.get_num_threads() == 2
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow  # trains several models
def test_precision_can_change_between_calls(unmeasured, tmp_path):
    small = small_with(epochs=1, seeds=1)
    full = compare("none", out=tmp_path / "no", **small)
    half = compare("none", out=tmp_path / "bf16", precision="bf16", **small)
    assert (full.recipe.precision, half.recipe.precision) == ("no", "bf16")
    assert full.runs[0]["curve"] != half.runs[0]["curve"]


@pytest.mark.slow  # trains several models
def test_torchvision_backbones_get_three_channels(unmeasured, tmp_path):
    small = small_with(epochs=1, seeds=1, backbone="torchvision/shufflenet_v2_x0_5", size=32)
    found = compare("simam", out=tmp_path, at="conv5", **small)
    assert found.recipe.channels == 3


def test_progress_is_printed_in_lines_without_a_terminal(unmeasured, tmp_path, capsys):
    compare("none", out=tmp_path, **small_with(quiet=False))
    printed = capsys.readouterr()
    assert re.search(r"2/2  none, seed 1  \d+\.\d\d %  about 0:00 left", printed.err)
    assert not printed.out


def test_quiet_prints_nothing(unmeasured, tmp_path, capfd):
    compare("none", out=tmp_path, **small_with(seeds=1))
    printed = capfd.readouterr()
    assert not printed.out
    assert "seed" not in printed.err


def test_a_terminal_shows_bars_with_the_time_left(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    finished = iter([0, 0, 1, 1])
    with Progress(1, 2, lambda: next(finished)) as progress:
        progress.start_run("se, seed 0")
        progress.end_epoch({"epoch": 1, "accuracy": 0.5})
        progress.end_run(0.9)
    printed = capsys.readouterr().err
    assert "runs" in printed
    assert "left" in printed


# The page


def test_the_report_needs_no_other_file(done):
    page = done.report.read_text("utf-8")
    assert '<html lang="en">' in page
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"https?:|@import|url\(|<link|src=\"(?!data:)", markup)
    images = re.findall(r"<img [^>]*>", markup)
    assert images
    assert all(re.search(r'alt="[^"]+"', tag) for tag in images)
    assert "$" not in markup
    for row in done.rows:
        assert row.label in markup


def test_the_page_has_an_element_for_every_figure(done):
    page = done.report.read_text("utf-8")
    found = re.search(r"const figures = (.*);\n", page)
    assert found is not None
    plots = json.loads(found[1])
    for name in plots:
        assert f'id="{name}"' in page


@pytest.mark.parametrize("name", ["forest", "params", "accuracy"])
def test_plotly_accepts_the_figures(done, name):
    from plotly import graph_objects

    plot = dict(
        forest=figures.forest_plot(done),
        params=figures.accuracy_against_cost(done, "params", "parameters", 1.0),
        accuracy=figures.learning_curves(done, "accuracy", "accuracy"),
    )[name]
    graph_objects.Figure(plot).to_json()  # raises on what plotly in the page would ignore


def test_names_of_classes_cannot_break_the_page(folder, unmeasured, tmp_path):
    (folder / "cat").rename(folder / "<b>cat")
    out = tmp_path / "out"
    small = small_with(data=f"folder:{folder}", train_samples=None, seeds=1, size=32)
    page = compare("simam", out=out, **small).report.read_text("utf-8")
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat" in page


def test_different_checksums_are_reported_as_not_paired(done):
    broken = ({**done.runs[0], "batches": "0"}, *done.runs[1:])
    assert not replace(done, runs=broken).paired


# The command


def test_the_command_has_the_options_and_defaults_of_the_function():
    function = inspect.signature(compare).parameters
    options = inspect.signature(command).parameters
    assert options.keys() - function.keys() == {"json", "processes"}
    assert not function.keys() - options.keys()
    for name, parameter in function.items():
        default = parameter.default
        wanted = ",".join(default) if isinstance(default, tuple) else default
        assert str(options[name].default) == str(wanted), name


def start(*words, out, launcher=("regard", "compare")):
    """Start a small comparison from the command line."""
    small = ["--backbone=test_resnet", "--size=16", "--train-samples=40", "--quiet"]
    call = [sys.executable, "-m", *launcher, *small, *words, f"--out={out}"]
    environment = os.environ | {"PYTHONPATH": str(Path(regard.__file__).parents[1])}
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_killed_comparison_resumes_and_loses_no_finished_run(tmp_path):
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
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert f"report: {tmp_path / 'report.html'}" in printed
    assert lines(tmp_path)[: len(before)] == before
    assert len(outcome(tmp_path)) == len(lines(tmp_path)) == 12


@pytest.mark.slow
def test_two_processes_divide_the_runs_and_have_the_results_of_one(tmp_path):
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
