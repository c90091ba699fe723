"""Our numbers are those of the papers' own code: output, input gradient, map, on both paths."""

from __future__ import annotations

import inspect
import json
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cases import randomise
from closeness import assert_same
from regard.catalog import entries
from regard.core.attention import SequenceAttention
from regard.core.reference import Source
from regard.factory import load_reference
from replay import Golden, main, replay, results

FOLDER = Path(__file__).parent / "golden"
MORE = Path(__file__).parents[2] / "shared" / "golden"  # all cases, where they are at hand
CHECKED = ("output", "grad", "map", "state_after")
# References without a golden of their own, that can be installed.
INSTALLED = {
    ("selective_kernel", "timm"): (
        "timm.layers",
        "SelectiveKernel",
        {"in_channels": 16, "groups": 4, "split_input": False},
    ),
    ("global_context", "timm"): (
        "timm.layers",
        "GlobalContext",
        {"channels": 16, "fuse_add": True, "rd_ratio": 0.3},
    ),
    ("vision_transformer", "timm"): (
        "timm.models.vision_transformer",
        "VisionTransformer",
        {
            "img_size": [11, 7],
            "patch_size": 1,
            "in_chans": 16,
            "embed_dim": 24,
            "depth": 2,
            "num_heads": 3,
        },
    ),
}
CONVOLVES = {"in_planes": 16, "out_planes": 12, "kernel_size": 3, "stride": 1, "padding": 1}
HEADS = {"d_model": 16, "d_k": 6, "d_v": 5, "h": 4}
SIMPLE = "SimplifiedScaledDotProductAttention"
INSTALLED |= {
    (key, "xmu-xiaoma666/External-Attention-pytorch"): (
        f"fightingcv_attention.{file}",
        name,
        kwargs,
    )
    for key, file, name, kwargs in (
        ("squeeze_excitation", "attention.SEAttention", "SEAttention", {"channel": 16}),
        ("eca", "attention.ECAAttention", "ECAAttention", {"kernel_size": 5}),
        ("simam", "attention.SimAM", "SimAM", {"e_lambda": 0.01}),
        ("coordinate", "attention.CoordAttention", "CoordAtt", {"inp": 16, "oup": 16}),
        ("triplet", "attention.TripletAttention", "TripletAttention", {"no_spatial": True}),
        ("shuffle_attention", "attention.ShuffleAttention", "ShuffleAttention", {"channel": 16}),
        ("spatial_group_enhance", "attention.SGE", "SpatialGroupEnhance", {"groups": 4}),
        ("class_residual", "attention.ResidualAttention", "ResidualAttention", {"channel": 16}),
        ("criss_cross", "attention.CrissCrossAttention", "CrissCrossAttention", {"in_dim": 16}),
        ("cond_conv", "conv.CondConv", "CondConv", CONVOLVES),
        ("dynamic_conv", "conv.DynamicConv", "DynamicConv", CONVOLVES),
        (
            "simplified_attention",
            "attention.SimplifiedSelfAttention",
            SIMPLE,
            {"d_model": 16, "h": 4},
        ),
        ("efficient_multi_head", "attention.EMSA", "EMSA", {**HEADS, "H": 11, "W": 7}),
        ("muse", "attention.MUSEAttention", "MUSEAttention", HEADS),
    )
}


@cache
def prefixes() -> dict[str, str]:
    """Which mechanism each name belongs to."""
    return {name: key for key, entry in entries().items() for name in entry.names}


@cache
def files() -> dict[str, Path]:
    """Every case of a mechanism in the catalogue, by its name."""
    found = {}
    for folder in (MORE, FOLDER):
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as file:
                if file.metadata()["mechanism"] in prefixes():
                    found[path.stem] = path
    return found


each_case = pytest.mark.parametrize("name", files())


@each_case
@pytest.mark.parametrize("watch", [False, True], ids=["plain", "watched"])
def test_numbers_are_those_of_the_reference(name: str, watch: bool) -> None:
    golden = Golden.read(files()[name])
    got = replay(golden, watch=watch)
    for key, want in golden.tensors.items():
        kind = key.partition(".")[0]
        if kind not in CHECKED or (kind == "map" and not watch):
            continue
        told = f"{name}: {key} (faithful: {golden.meta['faithful']})"
        assert key in got, f"{told}: not among {sorted(got)}"
        assert_same(got[key], want, told)


@each_case
def test_no_weight_is_left_out(name: str) -> None:
    """As many numbers in our state as in theirs."""
    golden = Golden.read(files()[name])
    ours = golden.build().state_dict()

    def count(state: dict) -> int:
        return sum(t.numel() for n, t in state.items() if not n.endswith("num_batches_tracked"))

    assert count(ours) == count(golden.state)


@pytest.mark.parametrize("key", entries())
def test_every_mechanism_has_a_golden(key: str) -> None:
    """In the folder, under a name that its card lists."""
    used = {path.stem.partition(".")[0] for path in FOLDER.glob("*.safetensors")}
    assert used & set(entries()[key].names), f"no golden under any of {entries()[key].names}"


def test_every_golden_is_named_for_its_mechanism() -> None:
    for path in sorted(FOLDER.glob("*.safetensors")):
        golden = Golden.read(path)
        assert path.stem.partition(".")[0] == golden.meta["mechanism"]
        assert golden.meta["mechanism"] in entries()[golden.key].names


@pytest.mark.parametrize(
    ("key", "reference"),
    [(key, name) for key, entry in entries().items() for name in entry.card.references],
)
def test_every_reference_has_a_golden(key: str, reference: str) -> None:
    """Or is installed, and tried itself."""
    sources = []
    for path in FOLDER.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            meta = file.metadata()
        if prefixes().get(meta["mechanism"]) == key:
            sources.append(Source.parse(meta["reference"]))
    tried = (key, reference) in INSTALLED
    assert tried or any(source.matches(reference) for source in sources), f"only {sources}"


@pytest.mark.parametrize(("key", "package"), INSTALLED)
def test_installed_reference_gives_the_same(key: str, package: str) -> None:
    where, name, kwargs = INSTALLED[key, package]
    theirs = getattr(pytest.importorskip(where), name)(**kwargs).double().eval()
    randomise(theirs)
    ours = load_reference(key, f"{package}:{name}", kwargs, theirs.state_dict()).eval()
    x = torch.randn(2, 16, 11, 7, dtype=torch.float64)
    if "queries" not in inspect.signature(theirs.forward).parameters:
        assert_same(ours(x), theirs(x))
        return
    tokens = x.flatten(2).mT
    y = ours(tokens) if isinstance(ours, SequenceAttention) else ours(x).flatten(2).mT
    assert_same(y, theirs(tokens, tokens, tokens))


@pytest.mark.parametrize(
    ("key", "source"),
    [(key, source) for key, entry in entries().items() for source in entry.card.refuses],
)
def test_what_is_another_mechanism_is_refused_with_the_reason(key: str, source: str) -> None:
    reason = entries()[key].card.refuses[source]
    with pytest.raises(ValueError, match=re.escape(f"{source} is another mechanism: {reason}")):
        load_reference(key, f"{source}:AnyClass", {}, {})


def test_cases_are_replayed_from_what_was_given_alone(tmp_path: Path) -> None:
    """The command needs no output, gradient or map in its input, and writes them all."""
    names = sorted(path.name for path in FOLDER.glob("*.safetensors"))
    (tmp_path / "in").mkdir()
    for name in names:
        golden = Golden.read(FOLDER / name)
        given = {n: t for n, t in golden.tensors.items() if n.partition(".")[0] not in CHECKED}
        save_file(given, tmp_path / "in" / name, dict(golden.meta))
    assert main(str(tmp_path / "in"), str(tmp_path / "out")) == 0
    for name in names:
        golden = Golden.read(FOLDER / name)
        written = load_file(tmp_path / "out" / name)
        assert {n for n in golden.tensors if n.partition(".")[0] in CHECKED} <= written.keys()
        for key, numbers in results(golden).items():
            assert_same(written[key], numbers, key)


def test_a_part_that_a_case_leaves_out_has_no_map() -> None:
    whole = Golden.read(FOLDER / "cbam.eval.safetensors")
    kwargs = json.dumps({**whole.kwargs, "no_spatial": True, "pool_types": ["lp", "lse"]})
    tensors = {n: t for n, t in whole.tensors.items() if "SpatialGate" not in n}
    got = results(Golden({**whole.meta, "kwargs": kwargs}, tensors))
    assert {"output", "grad.input", "map.channel"} == got.keys()
    assert_same(got["output"], got["map.channel"][..., None, None] * whole.tensors["input"])


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8e6


def test_one_case_that_fails_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = min(FOLDER.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    golden = Golden.read(good)
    (tmp_path / "in").mkdir()
    save_file(golden.tensors, tmp_path / "in" / "good.safetensors", dict(golden.meta))
    unknown = {**golden.meta, "mechanism": "nothing_of_the_kind"}
    save_file(golden.tensors, tmp_path / "in" / "bad.safetensors", unknown)
    assert main(str(tmp_path / "in"), str(tmp_path / "out")) == 1
    assert "bad.safetensors: ValueError: no mechanism" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.safetensors"]
