"""The command line: what it prints, for people and for programs, and how it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import timm
import torch
from PIL import Image
from rich.cells import cell_len
from rich.text import Text
from safetensors.torch import save_file
from typer.testing import CliRunner

import regard
from regard.catalog import cite, entries, find
from regard.cli import app
from regard.cli.equations import lines, prose
from regard.cli.record import record, snippet

KEYS = list(entries())
TERMINAL = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
TORCH_LOG = re.compile(r"[IWE]\d{4} \d\d:")  # what torch says of the machine as it is imported


def run(*args: str, **env: str):
    return CliRunner().invoke(app, args, env=env)


def printed(*args: str, **env: str) -> str:
    result = run(*args, **env)
    assert result.exit_code == 0, result.output
    return Text.from_ansi(result.stdout).plain


def python(*args: str, **options):
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    return subprocess.run([sys.executable, *args], capture_output=True, env=env, **options)


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_list_names_every_mechanism_under_what_it_weighs():
    heading, seen = "", {}
    for line in printed("list").splitlines()[1:]:
        if line.startswith("  "):
            seen[line.split()[0]] = heading
        else:
            heading = line.strip() or heading
    assert seen == {key: entry.card.domain for key, entry in entries().items()}


def test_a_pipe_gets_one_whole_plain_line_for_each_mechanism():
    result = run("list")
    assert "\x1b" not in result.stdout and "…" not in result.stdout
    for key, entry in entries().items():
        card = entry.card
        line = next(x for x in result.stdout.splitlines() if x.split()[:1] == [key])
        assert f"{card.title} " in line and f"{card.venue} {card.year}" in line
        assert f"{card.computes} → {card.applies}" in line


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("args", [("list",), ("find", "attention"), *(("show", k) for k in KEYS)])
def test_a_terminal_of_any_width_cuts_nothing(args, width):
    text = printed(*args, **TERMINAL, COLUMNS=str(width))
    assert max(map(cell_len, text.splitlines())) <= width
    assert not re.search(r"\S…", text)


def test_a_terminal_gets_color():
    assert "\x1b[" in run("list", **TERMINAL).stdout


def test_the_list_can_be_narrowed():
    shown = json.loads(printed("list", "--domain", "channel", "--json"))
    assert [item["key"] for item in shown] == [entry.key for entry in find(domain="channel")]


def test_the_markdown_table_has_a_row_for_each_mechanism():
    head, rule, *rows = printed("list", "--markdown").splitlines()
    assert {row.split("`")[1] for row in rows} == set(KEYS)
    assert {row.count(" | ") for row in (head, rule, *rows)} == {6}


@pytest.mark.parametrize("args", [("list",), ("find",), ("show", "cbam"), ("cite", "se", "cbam")])
def test_the_catalog_answers_without_torch_or_keras(args):
    code = (
        "import sys; from regard.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "sys.exit(' '.join({'torch', 'keras', 'numpy', 'timm'} & set(sys.modules)) or 0)"
    )
    result = python("-c", code, *args)
    assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize(
    "args, given",
    [
        (("gate",), {"text": "gate"}),
        (("--applies", "matmul"), {"applies": "matmul"}),
        (("--computes", "fc", "--kind", "gate"), {"computes": "fc", "kind": "gate"}),
        (("--year", "2018"), {"year": 2018}),
        (("--year", "2018-2020"), {"year": range(2018, 2021)}),
        (("--year", "2021-"), {"year": range(2021, 3000)}),
        (("--year", "-2018"), {"year": range(2019)}),
    ],
)
def test_find_answers_as_the_library_does(args, given):
    wanted = [entry.key for entry in find(**given)]
    assert 0 < len(wanted) < len(KEYS)
    assert [item["key"] for item in json.loads(printed("find", *args, "--json"))] == wanted


def test_finding_nothing_is_said():
    assert json.loads(printed("find", "zzzz", "--json")) == []
    result = run("find", "zzzz")
    assert result.exit_code == 0 and result.stdout == ""
    assert result.stderr == "regard: no mechanism matches all of that\n"


@pytest.mark.parametrize("key", KEYS)
def test_show_leaves_out_no_fact(key):
    entry = entries()[key]
    card = entry.card
    page = words(printed("show", key))
    told = [card.title, key, card.paper, card.authors, f"{card.venue} {card.year}"]
    for link in (card.url, card.code):  # they may be longer than a line
        assert link in "".join(page.split())
    told += [card.license, card.domain, card.kind, *card.aliases]
    told += [prose(text) for text in (entry.summary, *card.differs)]
    told += [known.source for known in entry.references]
    told += [prose(known.differs) for known in entry.references if not known.loads]
    told += [prose(option.meaning) for option in entry.options]
    told += [f"{option.name}: {option.type}" for option in entry.options]
    told += [f"= {option.default}" for option in entry.options if option.default]
    told += lines(entry.equation)
    own = entry.axes
    told += [
        own.map if ":" not in own.map and "," not in own.map else "",
        own.input.partition(":")[0][:5],
    ]
    assert [text for text in told if words(text) not in page] == []


@pytest.mark.parametrize("key", KEYS)
def test_show_gives_programs_the_whole_card(key):
    shown = json.loads(printed("show", key, "--json"))
    assert shown == json.loads(json.dumps(record(entries()[key])))
    assert shown["title"] == entries()[key].card.title and shown["options"] is not None


@pytest.mark.parametrize("key", KEYS)
def test_the_example_that_show_gives_runs(key):
    code = snippet(entries()[key])
    assert len(code.splitlines()) > 2
    exec(code, {})


@pytest.mark.parametrize("key", KEYS)
def test_every_equation_can_be_read_in_a_terminal(key):
    shown = lines(entries()[key].equation)
    assert shown and not any(mark in "".join(shown) for mark in ("\\", "{", "}"))


def test_cite_prints_each_paper_once():
    assert printed("cite", "se", "squeeze_excitation", "cbam").rstrip() == (
        f"{cite('squeeze_excitation')}\n\n{cite('cbam')}"
    )


def test_the_version_is_the_package_s():
    assert printed("--version").strip() == regard.__version__


@pytest.mark.parametrize(
    "args, message",
    [
        (("show", "cbamm"), 'no mechanism "cbamm"; did you mean "cbam"?'),
        (("cite", "cbam", "zz"), 'no mechanism "zz"'),
        (("list", "--domain", "chanel"), 'no domain "chanel"; there are'),
        (("find", "--kind", "thing"), 'no kind "thing"; there are'),
        (("find", "--year", "soon"), 'no year "soon"; write 2018'),
        (("measure", "resnt18"), 'no model "resnt18"; did you mean "resnet18"'),
        (("measure", "torchvision/resnt18"), 'did you mean "resnet18"'),
        (("measure", "keras/resnet50"), 'no library "keras"'),
        (("measure", "cbam", "--set", "reduction"), "--set takes name=value"),
        (("measure", "cbam", "--set", "reductoin=2"), 'did you mean "reduction"?'),
        (("measure", "cbam", "--set", "reduction=0"), "reduction must be a positive integer"),
        (("measure", "cbam", "--input", "1,0,3"), "--input takes sizes above zero"),
        (("measure", "cbam", "--input", "1,64,7"), "expected 4 axes (b c h w), got 3"),
        (("measure", "cbam", "--insert", "se"), "--insert needs a model"),
        (("measure", "cbam", "--device", "abacus"), 'no device "abacus" here'),
        (("measure", "resnet18", "--channels", "8"), "--channels is for a mechanism"),
        (("measure", "resnet18", "--set", "a=1"), "--set go with --insert"),
        (("measure", "resnet18", "--at", "block"), "--set go with --insert"),
        (("measure", "se", "--start", "paper"), "--set go with --insert"),
        (("measure", "test_resnet", "--input", "1,3"), "input of size: [1, 3]"),
        (("measure", "se", "--resolutions", "8,9", "--depth", "2"), "--depth lists modules"),
        (("measure", "se", "--resolutions", "8,9x9x9"), "--resolutions takes sides"),
        (("insert", "test_resnet", "cbam"), 'model = regard.insert(model, "cbam")'),
        (("insert", "test_resnet", "cbam", "--at", "x", "--dry-run"), "nothing matches at='x'"),
        (("insert", "test_resnet", "cbamm", "--dry-run"), 'did you mean "cbam"?'),
        (("insert", "test_resnet", "sk", "--dry-run"), "is a convolution"),
        (("measure", "mha", "--resolutions", "8,16"), "--resolutions is for an input (b c h w)"),
    ],
)
def test_bad_input_gets_one_line_and_status_two(args, message):
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    said = [line for line in result.stderr.splitlines() if not TORCH_LOG.match(line)]
    assert len(said) == 1 and said[0].startswith("regard: ") and message in said[0]


@pytest.mark.parametrize("args", [("list", "--nonsense"), ("show",), ("shw",)])
def test_unknown_options_and_commands_end_with_status_two(args):
    result = run(*args)
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_an_interrupt_ends_quietly(monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["regard.cli.list"], "find", interrupted)
    result = run("list")
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("args", [("list",), ("show", "cbam"), ("show", "cbam", "--json")])
def test_a_reader_that_leaves_early_hears_nothing(args):
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "regard", *args]
    result = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert result.stderr == b""


def test_letters_that_a_terminal_lacks_are_no_error():
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "regard", "show", "cbam"]
    result = subprocess.run(command, capture_output=True, env=env)
    assert result.returncode == 0 and b"CBAM" in result.stdout and result.stderr == b""


def test_measure_counts_as_the_library_does():
    shown = json.loads(
        printed("measure", "se", "--input", "1,8,5,5", "--set", "reduction=2", "--json")
    )
    wanted = regard.measure(regard.create("se", 8, reduction=2), (1, 8, 5, 5), latency=False)
    same = ("params", "macs", "elementwise", "memory", "memory_kept")
    assert {name: shown[name] for name in same} == {name: getattr(wanted, name) for name in same}
    assert shown["latency"]["median"] > 0


def test_measure_takes_the_shape_from_the_channels():
    shown = json.loads(printed("measure", "eca", "--channels", "12", "--no-latency", "--json"))
    assert shown["input"] == [[1, 12, 14, 14]]
    shown = json.loads(printed("measure", "mha", "--set", "embed_dim=24", "--no-latency", "--json"))
    assert shown["input"] == [[1, 196, 24]]


def test_measure_follows_the_resolution():
    shown = printed("measure", "eca", "--resolutions", "8,16x32", "--no-latency")
    assert "8 × 8" in shown and "16 × 32" in shown and "growth" in shown


def test_measure_compares_a_model_with_and_without():
    args = ("measure", "test_resnet", "--input", "1,3,32,32", "--insert", "se", "--no-latency")
    shown = json.loads(printed(*args, "--set", "reduction=4", "--json"))
    assert shown["after"]["params"] > shown["before"]["params"]
    page = printed(*args, "--set", "reduction=4")
    assert "test_resnet + se" in page and re.search(r"parameters +\S+ k +\S+ k +\+\S+ %", page)


def test_insert_shows_what_the_library_would_do():
    model = timm.create_model("test_resnet")
    args = ("insert", "test_resnet", "cbam", "--at", "block", "--set", "reduction=4", "--dry-run")
    shown = json.loads(printed(*args, "--json"))
    wanted = regard.insert(model, "cbam", at="block", reduction=4)
    added = sum(p.numel() for p in regard.attention_parameters(wanted))
    assert sum(place["parameters"] for place in shown["places"]) == added
    assert shown["after"]["params"] - shown["before"]["params"] == added
    page = printed(*args)
    assert all(f"{place['path']} " in page for place in shown["places"])
    assert 'model = regard.insert(model, "cbam", at="block", reduction=4)' in page


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.radial_gradient("L").resize((60, 40)).save(path)
    return str(path)


EXPLAIN = ("--insert", "cbam", "--set", "reduction=4", "--at", "stage", "--size", "32")


def attended(**options):
    return regard.insert(timm.create_model("test_resnet"), "cbam", "stage", reduction=4, **options)


def test_explain_tells_and_draws_the_maps(tmp_path, picture):
    weights, out = tmp_path / "weights.safetensors", tmp_path / "maps.png"
    model = attended()
    save_file(model.state_dict(), weights)
    args = ("explain", "test_resnet", picture, *EXPLAIN, "--weights", str(weights))
    first, again = (json.loads(printed(*args, "--json")) for _ in range(2))
    assert first == again  # with weights nothing is left to chance
    assert {item["mechanism"] for item in first.values()} == {"CBAM"}
    page = printed(*args, "--out", str(out))
    assert all(key in page for key in first)
    with Image.open(out) as drawn:
        assert drawn.width > 100


def test_explain_shows_a_models_own_attention(tmp_path, picture):
    args = ("explain", "vit_tiny_patch16_224", picture, "--classes", "2")
    found = json.loads(printed(*args, "--only", "blocks.1?.attn", "--json"))
    assert list(found) == ["blocks.10.attn", "blocks.11.attn"]
    assert {item["axes"] for item in found.values()} == {"b heads n m"}
    for name in ("maps.html", "maps.npz", "maps.png"):
        where = tmp_path / name
        said = printed(*args, "--method", "rollout", "--query", "0.5,0.25", "--out", str(where))
        assert "[rollout]" in said and where.stat().st_size > 1000


def test_explain_says_what_is_untrained(tmp_path, picture):
    args = ("explain", "test_resnet", picture, *EXPLAIN)
    assert "the weights are random" in run(*args).stderr
    weights = tmp_path / "weights.pt"
    torch.save({"state_dict": timm.create_model("test_resnet").state_dict()}, weights)
    result = run(*args, "--weights", str(weights))
    assert result.exit_code == 0 and "the inserted cbam is untrained" in result.stderr
    torch.save(attended().state_dict(), weights)
    assert "regard:" not in run(*args, "--weights", str(weights)).stderr


def test_explain_refuses_what_does_not_fit(tmp_path, picture):
    other, broken = tmp_path / "other.pt", tmp_path / "broken.safetensors"
    torch.save({"fc.weight": torch.zeros(2, 2)}, other)
    broken.write_text("nothing")
    text = tmp_path / "text.png"
    text.write_text("nothing")
    for args, message in (
        ((picture, *EXPLAIN, "--weights", str(other)), "other.pt does not fit the model ("),
        ((picture, *EXPLAIN, "--weights", str(broken)), "contains no weights that can be read"),
        ((picture, *EXPLAIN, "--weights", "nowhere.pt"), "nowhere.pt: no such file"),
        ((str(text), *EXPLAIN), "is not an image that can be read"),
        (("nowhere.png", *EXPLAIN), "nowhere.png: No such file"),
        ((picture,), "has no attention to explain"),
    ):
        test_bad_input_gets_one_line_and_status_two(("explain", "test_resnet", *args), message)
