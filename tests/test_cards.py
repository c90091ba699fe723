"""The cards say what can be true, and what can be read without running anything."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlparse

import pytest

import test_laws
import test_laws_arguments
import test_laws_precision
import test_laws_torch
from cases import EXAMPLE, Case, claims_of, mechanisms
from claims import Rounding
from regard.catalog import FOLDER, Entry, cite, entries, find, owners_of, parsed, resolve
from regard.core import card as cards
from regard.core.absent import ABSENT, SHARED
from regard.core.card import Card
from regard.core.shapes import split
from regard.factory import mechanism
from regard.references import Source, records

COMPUTES = {"pool", "fc", "conv", "matmul"}
APPLIES = {"gate", "matmul", "select", "sample", "add"}
BOOKS = (test_laws, test_laws_arguments, test_laws_precision, test_laws_torch)
SYMMETRIES = {"pixels", "channels", "frames"}
RANGE = re.compile(r"unit|real|offset|softmax( \w+)?")
AXES = re.compile(r"(\w+: )?([a-z]\w*|\d+|1?\*)( ([a-z]\w*|\d+|1?\*))*")
TERM = re.compile(r"[a-z](\^\d)?( [a-z](\^\d)?)*( log [a-z])?")

each = pytest.mark.parametrize("entry", entries().values(), ids=lambda entry: entry.key)


def test_the_catalog_holds_every_file() -> None:
    files = {path.stem for path in FOLDER.glob("[!_]*.py")}
    assert set(entries()) == files, "a file without a card that can be read"


@each
def test_the_card_that_is_read_is_the_card_that_runs(entry: Entry) -> None:
    assert mechanism(entry.key).card == entry.card
    assert mechanism(entry.key).axes == entry.axes


@each
def test_key_is_the_class_name_in_small_letters(entry: Entry) -> None:
    words = re.findall(r"ReLU|[A-Z]+[a-z]*\d*|[A-Z]?[a-z]+\d*", entry.name)
    known = {"_".join(words).lower(), "".join(words).lower()}
    assert entry.key in known, f"{entry.name} in {entry.key}.py"


@each
def test_words_are_those_of_the_catalog(entry: Entry) -> None:
    card = entry.card
    assert card.domain in get_args(cards.Domain)
    assert card.kind in get_args(cards.Kind)
    assert set(card.computes.split("+")) <= COMPUTES, card.computes
    assert set(card.applies.split("+")) <= APPLIES, card.applies
    assert {*card.equivariant, *card.map_invariant, *card.independent} <= SYMMETRIES
    assert RANGE.fullmatch(entry.axes.range), entry.axes.range


@each
def test_axes_can_be_read(entry: Entry) -> None:
    own = entry.axes
    patterns = [own.input, own.map, own.output, *own.parts.values()]
    for pattern in patterns:
        for part in pattern.split(", "):
            assert AXES.fullmatch(part), f"({pattern})"
        assert split(pattern)


@each
def test_the_paper_can_be_found(entry: Entry) -> None:
    card = entry.card
    assert 1990 <= card.year <= 2030, card.year
    assert card.title and card.paper and card.venue and card.authors
    assert all(" " in author for author in card.authors.split(", ")), "first and last name"
    for url in filter(None, (card.url, card.code)):
        parts = urlparse(url)
        assert parts.scheme == "https" and "." in parts.netloc, url
    assert bool(card.license) == bool(card.code), "code has a license, or 'none stated'"
    assert card.url and card.url in cite(entry.key)


@each
def test_cost_is_stated_in_terms_of_sizes(entry: Entry) -> None:
    assert set(entry.card.cost) == {"time", "memory"}
    for growth in entry.card.cost.values():
        for term in growth.split(" + "):
            assert TERM.fullmatch(term), growth


@each
def test_first_argument_is_a_width(entry: Entry) -> None:
    """So that ``create(name, 256)``, ``insert`` and other libraries' doors serve them all."""
    first, *_, device, dtype = entry.options
    assert first.name in ("channels", "embed_dim", "in_channels")
    assert (device.name, dtype.name) == ("device", "dtype")
    if first.default is None:
        assert first.type in ("int", "int | None")
        assert first.name in claims_of(entry.key)[entry.name].example
    else:  # nothing is built that depends on it
        assert (first.type, first.default) == ("int | None", "None")


@each
def test_example_and_variants_name_arguments(entry: Entry) -> None:
    known = {option.name for option in entry.options} - {"device", "dtype"}
    claims = claims_of(entry.key)[entry.name]
    assert set(claims.example) <= known
    for changed in (variant.changed for variant in claims.variants):
        assert changed, "an empty variant is the example again"
        assert set(changed) <= known
        assert {**claims.example, **changed} != claims.example


@each
def test_every_option_is_explained(entry: Entry) -> None:
    for option in entry.options:
        assert option.type, f"{option.name} has no type"
        assert option.meaning.endswith((".", ")")), f"{option.name}: {option.meaning!r}"


@each
def test_references_are_repositories_or_packages(entry: Entry) -> None:
    """Their literals, which are read without torch, are all that there are."""
    assert [(k.source, k.loads, k.differs) for k in entry.references] == [
        (record.source, record.loads, record.differs) for record in records(entry.key)
    ]
    assert entry.references, "nothing to compare with"
    for record in records(entry.key):
        source = Source.parse(record.source)
        assert source.matches(record.source), f"{record.source} does not match itself"
        assert source.repo == record.repo, f"{record.repo} is written {source.repo} in records"
        assert record.repo.count("/") <= 1 and "@" not in record.repo, record.repo
        assert record.loads or record.differs, "say why"
        for part in filter(None, record.map.split(", ")):
            assert AXES.fullmatch(part), f"({record.map})"


@each
def test_exceptions_have_a_reason(entry: Entry) -> None:
    for claims in claims_of(entry.key).values():
        cases = [Case(mechanism(entry.key), claims, v) for v in (EXAMPLE, *claims.variants)]
        for name, reason in [item for c in cases for item in (c.skips | c.zero_grad).items()]:
            assert len(reason.split()) > 2, f"{name}: say why"
        wide = claims.rounding != Rounding()
        assert wide == bool(claims.rounding.reason), "say why half precision may be off"
        written = {f"test_{name}" for case in cases for name in case.skips}
        assert not written - {name for book in BOOKS for name in vars(book)}, "no such law"
    assert all(told.endswith(".") for told in entry.card.differs), "whole sentences"


def test_a_name_that_several_answer_to_is_no_key_and_tells_them_apart() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for key, entry in entries().items():
        assert len(set(entry.card.aliases)) == len(entry.card.aliases), f"{key}: an alias twice"
        for name in entry.names:
            owners[name].add(key)
    for name in [*SHARED, *(name for one in ABSENT for name in one.names)]:
        keys, absent = owners_of(name)
        owners[name] |= {*keys, *(one.title for one in absent)}
    for name, keys in owners.items():
        assert re.fullmatch(r"[a-z0-9_]+", name), f"{name}: cannot be asked for"
        if name in entries():
            assert keys == {name}, f"{name} is a key, and an alias of {keys - {name}}"
            assert resolve(name) == name
        elif len(keys) == 1 and keys <= entries().keys():
            assert resolve(name) in keys
        elif len(keys) == 1:
            with pytest.raises(ValueError, match=r"which is not here: \w+") as answer:
                resolve(name)
            assert next(iter(keys)) in str(answer.value)
        else:
            with pytest.raises(ValueError, match="may mean") as answer:
                resolve(name)
            assert all(key in str(answer.value) for key in keys)


@each
def test_every_mechanism_is_found_by_what_its_card_says(entry: Entry) -> None:
    card = entry.card
    questions: tuple[dict[str, Any], ...] = (
        {"domain": card.domain},
        {"kind": card.kind},
        {"year": card.year},
        {"computes": card.computes.split("+")[0]},
        {"applies": card.applies.split("+")[0]},
        {"text": card.title},
    )
    for question in questions:
        assert entry in find(**question), question


@pytest.mark.parametrize("name", mechanisms())
def test_every_class_has_claims(name: str) -> None:
    cls = mechanisms()[name]
    assert isinstance(cls(**claims_of(name.partition(".")[0])[cls.__name__].example), cls)


def test_every_file_of_claims_is_of_a_mechanism() -> None:
    stems = {path.stem for path in (Path(__file__).parent / "claims").glob("[!_]*.py")}
    assert stems == set(entries())


def test_every_field_of_the_card_is_documented() -> None:
    told = re.findall(r"^        (\w+): \S", Card.__doc__ or "", re.M)
    assert told == [field.name for field in fields(Card)]


def test_an_entry_from_the_index_equals_the_parsed_one():
    assert {key: parsed(key) for key in entries()} == entries()


# What two collections for YOLO offer, as their readers ask for it, and our keys.
ASKED = {
    "bam": ("BAM", "BAMBlock"),
    "cbam": ("CBAM", "CBAMBlock"),
    "squeeze_excitation": ("SE", "SEAttention"),
    "contextual_transformer": ("CoTAttention",),
    "mobilevit": ("MobileViTAttention",),
    "simam": ("SimAM",),
    "selective_kernel": ("SK", "SKAttention"),
    "shuffle_attention": ("ShuffleAttention",),
    "s2": ("S2Attention",),
    "triplet": ("TripletAttention",),
    "eca": ("ECA", "ECAAttention"),
    "parnet": ("ParNetAttention",),
    "coordinate": ("CoordAttention", "CoordAtt"),
    "multi_head": ("MHSA",),
    "spatial_group_enhance": ("SGE", "SpatialGroupEnhance"),
    "double_attention": ("A2Attention",),
    "global_context": ("GC",),
    "effective_se": ("EffectiveSE", "EffectiveSEModule"),
    "gather_excite": ("GE",),
    "criss_cross": ("CrissCrossAttention",),
    "polarized": ("Polarized Self-Attention", "Sequential Self-Attention"),
    "gam": ("GAM",),
    "bilevel_routing": ("Biformer", "BiLevelRoutingAttention", "BiLevelRoutingAttention_nchw"),
    "lsk": ("LSKBlock",),
    "mlca": ("MLCA",),
    "large_separable_kernel": ("LSKA",),
    "deformable_attention": ("DAttention",),
    "context_anchor": ("CAA",),
    "cpca": ("CPCA",),
    "clo": ("CloAttention", "EfficientAttention"),
    "deformable_large_kernel": ("deformable_LKA",),
    "multi_scale_conv": ("SegNext_Attention",),
    "focused_linear": ("FocusedLinearAttention",),
    "aggregated": ("TransNeXt_AggregatedAttention", "AggregatedAttention"),
    "cascaded_group": ("LocalWindowAttention",),
    "efficient_local": ("Efficient Local Attention",),
    "convolution_attention_fusion": ("CAFM",),
    "adaptive_fine_grained": ("AFGCAttention",),
}
AMBIGUOUS = {
    "EMA": {"efficient_multi_scale", "expectation_maximization"},
    "ELA": {"efficient_local"},
    "a2": {"area", "double_attention"},
    "aa": {"area", "attention_augmented_conv", "axial"},
    "ca": {"coordinate", "squeeze_excitation"},
    "cca": {"criss_cross"},
    "dat": {"deformable_attention"},
    "efficientvit": {"cascaded_group", "multi_scale_linear"},
    "gct": {"gated_channel_transform"},
    "pa": {"pointwise_spatial", "polarized"},
    "psa": {"pointwise_spatial", "polarized", "position_sensitive_yolo", "pyramid_split"},
    "sca": {"simplified_channel"},
    "scconv": {"self_calibrated_conv", "spatial_channel_reconstruction"},
}


@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for key, names in ASKED.items() for name in names]
)
def test_every_name_of_the_collections_is_resolved(name: str, key: str) -> None:
    assert resolve(name) == key


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_names_of_several_papers_are_answered_with_the_candidates(name: str) -> None:
    with pytest.raises(ValueError, match=f'"{name}" may mean .* or .*; say which') as answer:
        resolve(name)
    assert all(key in str(answer.value) for key in AMBIGUOUS[name])


def test_what_is_absent_has_a_key_that_comes_closest() -> None:
    for one in ABSENT:
        assert one.instead in ("", *entries()), f"{one.title}: no mechanism is called {one.instead}"
        assert not set(one.names) & entries().keys(), f"{one.title} has the name of a mechanism"
