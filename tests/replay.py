"""Run our mechanisms on golden cases: ``python tests/replay.py IN OUT``.

IN and OUT are files or folders. Of a case only the inputs, the state, the cotangents and the
metadata are read; the output, the input gradient, the map and the buffers after a training step
are written under the same file name, in the names, shapes and layout of the reference. A case that
cannot be replayed is told on the standard error, and the exit status is 1.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from regard.catalog import entries, resolve
from regard.compat.modules import weighted
from regard.core.attention import Mechanism, SequenceAttention, Tap
from regard.core.contracts import LevelsAttention, PairAttention
from regard.core.shapes import GRIDS, expand, split
from regard.factory import mechanism
from regard.references import Reference, Source, load, matching, records

# How a case calls the feature that its other one guides, which is the first of ours.
GUIDED = ("x (", "high (")
QUERIES = ("x", "query", "queries")
KEYS_AND_VALUES = ("key", "keys", "value", "values", "x_prev")
# What the words of a case say of its reference, as the records call it.
SAID: dict[str, dict[str, Any]] = {
    "with the paper's sum": {"fusion": "sum"},
    "sigmoid() on the channel branch": {"channel_activation": "sigmoid"},
    "with bilinear upsampling": {"up": "bilinear"},
}
FUSIONS = {"concat": "concat", "multiplication": "mul", "addition": "add", "max": "max"}
PADDING = ("key_padding_mask", "encoder_padding_mask")
# What a case calls queries, and keys and values, in a sentence that begins with it.
BEGINNINGS = {
    "noise": "query",
    "inputs_q": "query",
    "inputs_kv": "key",
    "inputs": "key",
    "attention_mask (B, M, N), 1 = attend": "opens",
}
CLOSES = ("attn_mask", "attention_mask", *PADDING)  # True = may not attend
# Masks of a whole model, under the names that our models give them; True = may not attend there.
MASKS = {
    "mask": "source_mask",
    "src_mask": "source_mask",
    "tgt_mask": "target_mask",
    "memory_mask": "memory_mask",
    "src_key_padding_mask": "source_key_mask",
    "tgt_key_padding_mask": "target_key_mask",
    "memory_key_padding_mask": "memory_key_mask",
}


@dataclass(frozen=True)
class Golden:
    """A golden case: what was given to a reference implementation."""

    meta: Mapping[str, str]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Golden:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            return cls(file.metadata(), {name: file.get_tensor(name) for name in names})

    def under(self, prefix: str) -> dict[str, Tensor]:
        """The tensors called so, or ``prefix.…``, by the rest of their name."""
        return {
            name.removeprefix(prefix).removeprefix("."): tensor
            for name, tensor in self.tensors.items()
            if name == prefix or name.startswith(prefix + ".")
        }

    @property
    def key(self) -> str:
        return mechanism_of(self.meta)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments of the constructor, and what the case says of it elsewhere.

        Of the call, and of what is said beside it, those are taken that a record knows.
        """
        kwargs = json.loads(self.meta["kwargs"])
        known = {
            name
            for record in matching(mechanism(self.key), self.meta["reference"])
            for name in record.signature().parameters
        }
        numbers = re.findall(r"\b(\w+)=(\d+)\b", self.meta.get("call", ""))
        further = {name: int(number) for name, number in numbers}
        further |= json.loads(self.meta.get("extra", "{}"))
        kwargs |= {n: value for n, value in further.items() if n in known and n not in kwargs}
        for words, options in SAID.items():  # what the weights do not tell
            if words in self.meta["reference"]:
                kwargs |= options
        if "; fusion from " in self.meta["reference"]:  # two layers, and how they were joined
            words = self.meta["faithful"]
            kwargs["fusion"] = next(fusion for word, fusion in FUSIONS.items() if word in words)
        [kind] = known & {"encoder_layer", "decoder_layer"} or {""}
        return _stack(kwargs, kind) if kind else kwargs

    @property
    def state(self) -> dict[str, Tensor]:
        """The state of the reference, what it holds under two names under the first alone.

        Indices into its parameters, which follow from its sizes, are none of it.
        """
        first = first_names(self.under("state"))
        state = {n: t for n, t in self.under("state").items() if first[n] == n}
        return {n: t for n, t in state.items() if t.is_floating_point() or not t.dim()}

    @property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs under the names that the case calls them, in call order."""
        found = self.under("input")
        ordered = [found[i] for i in sorted(found, key=lambda i: int(i or 0))]
        alone = ["x"] if len(ordered) == 1 else list(found)
        names = json.loads(self.meta["inputs"]) if "inputs" in self.meta else alone
        if "..." in names:  # any number of levels
            names = [f"level{i}" for i in range(len(ordered))]
        return dict(zip(names, ordered, strict=True))

    @property
    def length_first(self) -> bool:
        """Whether the sequences are laid out as length, batch, channels."""
        return self.meta["layout"].startswith(("LNC", "TBC"))

    @property
    def channels_last(self) -> bool:
        """Whether the images are laid out as batch, height, width, channels."""
        told = self.meta["layout"].startswith(("BHWC", "NHWC"))
        return told or self.kwargs.get("dim_index") == -1

    @property
    def of_places(self) -> bool:
        """Whether an axis behind the channels counts sequences: places in a patch, by patches."""
        return self.meta["layout"].startswith("(B, C, P")

    @property
    def grid(self) -> tuple[int, int] | None:
        """Height and width of the image whose positions are the tokens of the case."""
        if "square windows" in self.meta["layout"]:
            side = isqrt(self.tensors["input"].shape[1])
            return side, side
        return (int(self.meta["H"]), int(self.meta["W"])) if "H" in self.meta else None

    def build(self) -> nn.Module:
        """Our module, with the weights of the case, in its mode."""
        module = self.loaded()[0]
        return module.train(self.meta["mode"] == "train")

    def loaded(self) -> tuple[nn.Module, Reference, Mapping[str, Tensor]]:
        """Our module, the record of the reference, and its state under our names."""
        source, state = self.meta["reference"], self.under("state")
        return load(mechanism(self.key), source, self.kwargs, state)

    def map_axes(self) -> dict[str, str]:
        """The axes of each map of the reference, by its name there."""
        axes = self.loaded()[1].map
        return split(axes) if axes else {}


def mechanism_of(meta: Mapping[str, str]) -> str:
    """The mechanism of a case; where several have its prefix, the one that knows its reference."""
    owners = [key for key, entry in entries().items() if meta["mechanism"] in entry.names]
    if len(owners) == 1:
        return owners[0]
    if not owners:
        return resolve(meta["mechanism"])
    source = Source.parse(meta["reference"])
    known = [key for key in owners if any(source.matches(r.source) for r in records(key))]
    return known[0] if len(known) == 1 else resolve(meta["mechanism"])


def _stack(kwargs: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The arguments of one of torch's stacks: a layer, how many there are, and a last norm."""
    layer = {n: v for n, v in kwargs.items() if n not in ("layers", "final_norm", "causal")}
    norm = nn.LayerNorm(kwargs["d_model"]) if kwargs["final_norm"] else None
    return {kind: layer, "num_layers": kwargs["layers"], "norm": norm}


def replay(golden: Golden, *, watch: bool) -> dict[str, Tensor]:
    """What our module gives for a case, in the names and the layout of its reference.

    Args:
        golden: The case.
        watch: Watch every tap, so that each map is built and found among the results.
    """
    module = golden.build()
    if "aux.bases" in golden.tensors:  # which were drawn in the call, for each image
        module.bases = golden.tensors["aux.bases"]
    passed: list[tuple[str, Any]] = []
    if watch:
        listen(module, passed)
    leaves = {n: x.clone() for n, x in golden.inputs.items()}
    leaves = {n: x.requires_grad_(x.is_floating_point()) for n, x in leaves.items()}
    if golden.grid is not None and module.axes.input == "b c h w":
        pixels = {n: x.mT.unflatten(2, golden.grid) for n, x in leaves.items()}
        y = call(module, pixels, length_first=False).flatten(2).mT
    elif golden.channels_last and module.axes.input == "b c h w":
        images = {n: x.permute(0, 3, 1, 2) for n, x in leaves.items()}
        y = call(module, images, length_first=False).permute(0, 2, 3, 1)
    elif golden.of_places and isinstance(module, SequenceAttention):
        sequences = {n: x.permute(0, 2, 3, 1).flatten(0, 1) for n, x in leaves.items()}
        y = call(module, sequences, length_first=False)
        y = y.unflatten(0, (len(golden.under("cotangent")[""]), -1)).permute(0, 3, 1, 2)
    else:
        y = call(module, leaves, length_first=golden.length_first)
    if isinstance(module, LevelsAttention) and len(y) == 1:
        y = y[0]
    if isinstance(y, Tensor) and "cotangent.0" in golden.tensors:  # their map is an output too
        assert not isinstance(module, SequenceAttention)
        a = module.attention(module.prepare(*leaves.values()))
        y = y, relayout(a, module.axes.map, golden.map_axes()["0"])

    outputs: dict[str, Tensor]
    outputs = {"": y} if isinstance(y, Tensor) else {str(i): t for i, t in enumerate(y)}
    results = {_join("output", name): t for name, t in outputs.items()}
    results |= input_gradients(golden, leaves, outputs)
    if watch:
        if isinstance(module, LevelsAttention):
            results |= maps_of_levels(passed)
        else:
            results |= maps(golden, module, passed)
        if "the map there is uniform" in golden.meta.get("notes", ""):
            # Where a query may attend to nothing, ours has zeros, and theirs ignores its weights.
            *_, opens = golden.inputs.values()
            closed = ~opens.bool().any(-1)[:, None, :, None]
            results["map"] = results["map"].masked_fill(closed, 1 / opens.shape[-1])
    if module.training:
        results |= buffers_after(golden, module)
    return {name: t.detach().contiguous() for name, t in results.items()}


def first_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """For each entry of a state the first with the same numbers: a layer may have two names."""
    first: dict[str, str] = {}
    for name, t in state.items():
        known = (n for n in first if t.is_floating_point() and torch.equal(state[n], t))
        first[name] = next(known, name)
    return first


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def call(module: nn.Module, inputs: Mapping[str, Tensor], *, length_first: bool) -> Any:
    """Call our module with the inputs of a reference."""

    def turn(x: Tensor) -> Tensor:
        return x.transpose(0, 1) if length_first and x.dim() == 3 else x

    if isinstance(module, SequenceAttention):
        inputs = in_order(inputs)
        sequences = [turn(x) for n, x in inputs.items() if n in (*QUERIES, *KEYS_AND_VALUES)]
        closing = {name: x for name, x in inputs.items() if name in CLOSES}
        unknown = inputs.keys() - {
            *QUERIES,
            *KEYS_AND_VALUES,
            *CLOSES,
            "attention_weights",
            "opens",
        }
        if unknown:
            raise ValueError(f"no idea what {sorted(unknown)} is to a sequence attention")
        mask = may_attend(closing, len(sequences[0]))
        if "opens" in inputs:
            mask = inputs["opens"].bool().unsqueeze(1)
        if "attention_weights" in inputs:  # which multiply the scores there
            q, k, v = [*sequences, *sequences[-1:] * 2][:3]
            mask = weighted(module, q, k, v, mask, inputs["attention_weights"])
        y = module(*sequences, mask=mask)
    elif "input_spatial_shapes" in inputs:
        y = over_levels(module, inputs)
    elif isinstance(module, PairAttention):
        ordered = sorted(inputs, key=lambda name: not name.startswith(GUIDED))
        y = module(*(inputs[name] for name in ordered))
    elif inputs.keys() & MASKS.keys():
        given = {n: x for n, x in inputs.items() if n not in MASKS}
        y = module(*map(turn, given.values()), **masks_of_a_model(module, inputs))
    else:
        # A step of a network that takes several has more inputs than the network.
        single = isinstance(module, Mechanism) and len(inputs) > len(split(module.axes.input))
        single &= not isinstance(module, LevelsAttention)
        y = (module.step if single else module)(*map(turn, inputs.values()))
    return turn(y) if isinstance(y, Tensor) else tuple(map(turn, y))


def over_levels(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Call our module with the levels of a reference, which has them in one sequence."""
    sizes = [tuple(map(int, size)) for size in inputs["input_spatial_shapes"]]
    parts = inputs["input_flatten"].transpose(1, 2).split([h * w for h, w in sizes], 2)
    levels = [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
    padding = [x for name, x in inputs.items() if name.startswith("input_padding_mask")]
    mask = ~padding[0].bool() if padding else None
    return module(inputs["query"], inputs["reference_points"], *levels, mask=mask)


def in_order(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a sequence attention, of which the queries come first, by their usual names.

    >>> list(in_order({"inputs": torch.zeros(1), "noise (drawn)": torch.zeros(1)}))
    ['query', 'key']
    """
    named = {}
    for name, x in inputs.items():
        words = [words for words in BEGINNINGS if name == words or name.startswith(f"{words} ")]
        named[BEGINNINGS[max(words, key=len)] if words else name] = x
    return dict(sorted(named.items(), key=lambda item: item[0] not in QUERIES))


def masks_of_a_model(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The masks of a reference as ours; padding of the source hides no memory there."""
    batch = len(next(iter(inputs.values())))
    masks = {ours: _opened(inputs[name], batch) for name, ours in MASKS.items() if name in inputs}
    if (
        "source_key_mask" in masks
        and "memory_key_mask" in inspect.signature(module.forward).parameters
    ):
        masks.setdefault("memory_key_mask", torch.ones_like(masks["source_key_mask"]))
    return masks


def _opened(closed: Tensor, batch: int) -> Tensor:
    if closed.dim() == 3:
        closed = closed.unflatten(0, (batch, -1))
    return closed if closed.is_floating_point() else ~closed.bool()


def may_attend(closing: Mapping[str, Tensor], batch: int) -> Tensor | None:
    """One mask for all masks of a reference, True = may attend, or a bias if one of them is.

    A mask is ``n m``, ``(b heads) n m`` or ``b heads n m``; of keys alone, ``b m``.
    """
    masks = []
    for name, closed in closing.items():
        if name in PADDING:
            closed = closed[:, None, None]
        masks.append(_opened(closed, batch))
    if not masks:
        return None
    if any(mask.is_floating_point() for mask in masks):
        return sum(mask if mask.is_floating_point() else _as_bias(mask) for mask in masks)
    merged = masks[0]
    for mask in masks[1:]:
        merged = merged & mask
    return merged


def _as_bias(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)


def input_gradients(
    golden: Golden, leaves: Mapping[str, Tensor], outputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gradient of the sum of outputs times cotangents by each input that gets one."""
    pairs = [(outputs[name], c) for name, c in golden.under("cotangent").items()]
    wanted = {i: x for i, x in enumerate(leaves.values()) if x.requires_grad}
    if not pairs or not wanted:
        return {}
    total = sum((y * c).sum() for y, c in pairs)
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    single = "input" in golden.tensors
    return {
        "grad.input" if single else f"grad.input.{i}": gradient
        for i, gradient in zip(wanted, found, strict=True)
        if gradient is not None
    }


def listen(module: nn.Module, passed: list[tuple[str, Any]]) -> None:
    """Note each map with the path of its tap, in order of passing."""

    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda tap, args, a: passed.append((path, a))

    for path, tap in module.named_modules():
        if isinstance(tap, Tap):
            tap.register_forward_hook(note(path))


@dataclass(frozen=True)
class Map:
    """A map of ours: its tap, the path of its mechanism, its name, its axes, its numbers."""

    tap: str
    path: str
    name: str
    axes: str
    numbers: Tensor

    @property
    def child(self) -> str:
        """What the attention is within the model: ``cross`` of a ``….cross_attention``."""
        return self.path.rpartition(".")[2].removesuffix("_attention")


def own_maps(module: nn.Module, passed: list[tuple[str, Any]]) -> list[Map]:
    """Our maps with their axes, one by one, in order of passing."""
    found = []
    for tap_path, a in passed:
        path, _, tap = tap_path.rpartition(".")
        owner = module.get_submodule(path)
        assert isinstance(owner, Mechanism)
        part = tap.removeprefix("tap").removeprefix("_")
        named = split(owner.axes.parts[part] if part else owner.axes.map)
        for (name, axes), numbers in zip(
            named.items(), [a] if isinstance(a, Tensor) else a, strict=True
        ):
            label = part or ("" if name.isdigit() else name)
            whole = expand(axes, numbers.dim())
            parts = [numbers]
            if "iterations" in whole.split():  # of which a reference has a map each
                parts = list(numbers.unbind(whole.split().index("iterations")))
                whole = whole.replace("iterations ", "")
            found += [Map(tap_path, path, label, whole, t) for t in parts]
    return found


def maps(golden: Golden, module: nn.Module, passed: list[tuple[str, Any]]) -> dict[str, Tensor]:
    """Our maps under the names and in the layout of the reference.

    A name of the reference is a part, a map or a child of ours, the first one called so; an
    instance whose options leave the part out has no such map. Numbers stand for our maps in their
    order: those of the mechanism itself, if there are as many as numbers, else all. Of a mechanism
    that makes several passes or looks at several scales, each has a number, though the card names
    the axes once. A case that has one of several maps alone says in its notes which.
    """
    only = re.search(r"\bmap = (\w+)", golden.meta.get("notes", ""))
    ours = own_maps(module, passed)
    wanted, names = golden.map_axes(), golden.loaded()[1].map_names
    main = [m for m in ours if m.tap == "tap"]
    main = main or [m for m in ours if m.tap.endswith(".tap")]  # of a gate within a block
    in_order = main if len(main) == sum(map(str.isdigit, wanted)) else ours
    passes = len({m.tap for m in in_order}) == 1  # and not several blocks, each with a tap
    ranks = {len(m.axes.split()) for m in in_order}
    if passes and list(wanted) == ["0"] and ranks == {len(wanted["0"].replace("_", " ").split())}:
        wanted = {str(i): wanted["0"] for i in range(len(in_order))}  # of each pass
    grid = next(iter(golden.inputs.values())).dim() - 2
    results = {}
    for i, (name, axes) in enumerate(wanted.items()):
        here = names.get(name, name)
        named = [m for m in ours if m.name == here]
        named = named or [m for m in ours if here in (m.path, m.child)]
        called = in_order[i:] if name.isdigit() else named
        if not called:
            continue
        alone = name == "0" and 1 in (sum(map(str.isdigit, wanted)), len(in_order))
        alone |= only is not None and name == only[1]
        theirs = _write_out(axes, grid)
        a, own = _divide(called[0].numbers, called[0].axes, theirs, golden.kwargs)
        a, own = _by_image(a, own, theirs, len(next(iter(golden.inputs.values()))))
        results["map" if alone else f"map.{name}"] = relayout(a, own, theirs)
    return results


def maps_of_levels(passed: list[tuple[str, Any]]) -> dict[str, Tensor]:
    """The weights of the neighbors that each level has, laid out as the reference has them."""
    (weights,) = (a for path, a in passed if path == "tap")
    rows = {f"map.scale_{i}": a.T for i, a in enumerate(weights.unbind(1))}
    return {name: a[a.abs().sum(1) > 0] for name, a in rows.items()}


def _divide(a: Tensor, ours: str, theirs: str, kwargs: Mapping[str, Any]) -> tuple[Tensor, str]:
    """Divide axes of ours that theirs has as two, the first called as the argument that counts it.

    >>> _divide(torch.zeros(2, 3, 8, 1), "b r o 1", "b r groups o", {"groups": 2})[1]
    'b r groups o 1'
    """
    own, names = ours.split(), theirs.split()
    if sum(axis != "1" for axis in names) > sum(axis != "1" for axis in own):
        for count, axis in pairwise(names):
            if axis in own and count not in own and isinstance(kwargs.get(count), int):
                i = own.index(axis)
                a = a.unflatten(i, (kwargs[count], -1))
                own.insert(i, count)
    return a, " ".join(own)


def _by_image(a: Tensor, ours: str, theirs: str, batch: int) -> tuple[Tensor, str]:
    """Divide a batch of ours that holds several parts of each image, an axis of its own in theirs.

    >>> _by_image(torch.zeros(8, 2, 5, 5), "b heads n m", "b p heads n m", 2)[1]
    'b p heads n m'
    """
    own, names = ([n for n in axes.split() if n != "1"] for axes in (ours, theirs))
    if len(a) == batch or len(names) <= len(own):
        return a, ours
    return a.unflatten(0, (batch, -1)), ours.replace("b", f"b {names[1]}", 1)


def _write_out(axes: str, dims: int) -> str:
    starred = {"*", "1*"} & set(axes.split())
    return expand(axes, len(axes.split()) - 1 + dims) if starred and dims in GRIDS else axes


def relayout(a: Tensor, ours: str, theirs: str) -> Tensor:
    """Permute named axes, and drop or add axes of one, to go from our layout to another.

    An axis that one side alone names so is the one that the other side alone names otherwise. Axes
    that theirs has as one are joined there by an underscore; what theirs lacks is averaged over.

    >>> relayout(torch.zeros(2, 5, 1, 3), "b h 1 w", "b w h").shape
    torch.Size([2, 3, 5])
    >>> relayout(torch.zeros(2, 5, 3), "b n k", "b m n").shape
    torch.Size([2, 3, 5])
    >>> relayout(torch.zeros(2, 5, 3), "b g n", "b_g 1 n").shape
    torch.Size([10, 1, 3])
    >>> relayout(torch.zeros(2, 5, 3, 4), "b heads n m", "b n m").shape
    torch.Size([2, 3, 4])
    """
    places = {i: axis for i, axis in enumerate(ours.split()) if axis != "1"}
    wanted = [axis for axis in theirs.replace("_", " ").split() if axis != "1"]
    strangers = [axis for axis in wanted if axis not in places.values()]
    if len(places) > len(wanted) and not strangers:
        lacked = [i for i, axis in places.items() if axis not in wanted]
        kept = [axis for i, axis in enumerate(ours.split()) if i not in lacked]
        return relayout(a.mean(lacked), " ".join(kept), theirs)
    if len(places) != len(wanted) or len(set(strangers)) > 1:
        raise ValueError(f"our map ({ours}) cannot be laid out as ({theirs})")
    order = []
    for axis in wanted:
        named = (i for i, name in places.items() if name == axis)
        left_over = (i for i, name in places.items() if name not in wanted)
        order.append(next(left_over if axis in strangers else named))
        del places[order[-1]]
    ones = [i for i, axis in enumerate(ours.split()) if axis == "1"]
    moved = a.permute(*order, *ones)  # the ones last, where reshaping moves nothing
    sizes = iter(moved.shape)
    return moved.reshape(
        [1 if a == "1" else prod(next(sizes) for _ in a.split("_")) for a in theirs.split()]
    )


def buffers_after(golden: Golden, module: nn.Module) -> dict[str, Tensor]:
    """The buffers after a training step, under the names of the reference."""
    state = golden.under("state")
    *_, renamed = golden.loaded()
    theirs = {id(tensor): name for name, tensor in state.items()}
    first = first_names(state)
    buffers = {name for name, _ in module.named_buffers()}
    after = module.state_dict()
    return {
        f"state_after.{alias}": after[name].reshape(tensor.shape).clone()
        for name, tensor in renamed.items()
        if name in buffers and id(tensor) in theirs
        for alias in state
        if first[alias] == first[theirs[id(tensor)]]
    }


def results(golden: Golden) -> dict[str, Tensor]:
    """Everything that is written: what a user gets, and the maps that a watcher sees."""
    seen = replay(golden, watch=True)
    plain = replay(golden, watch=False)
    return seen | plain


def main(given: str, wanted: str) -> int:
    """Replay a file, or every case of a folder; return how many could not be."""
    source, target = Path(given), Path(wanted)
    paths = sorted(source.glob("*.safetensors")) if source.is_dir() else [source]
    if not paths:
        raise SystemExit(f"no *.safetensors in {source}")
    to_folder = source.is_dir() or target.is_dir() or target.suffix != ".safetensors"
    failures = 0
    for path in paths:
        to = target / path.name if to_folder else target
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            golden = Golden.read(path)
            save_file(results(golden), to, dict(golden.meta))
        except Exception as error:  # the other cases are still worth having
            failures += 1
            sys.stderr.write(f"{path.name}: {type(error).__name__}: {error}\n")
    return failures


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    raise SystemExit(bool(main(*sys.argv[1:])))
