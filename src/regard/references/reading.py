"""Reading checkpoints of other implementations: their sources, and the names of their entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]
M = TypeVar("M", bound="nn.Module")

# Other names of repositories and packages, with the name in the records.
SAME = {
    "bottleneck-transformer-pytorch": "lucidrains/bottleneck-transformer-pytorch",
    "bottleneck_transformer_pytorch": "lucidrains/bottleneck-transformer-pytorch",
    "huggingface/pytorch-image-models": "timm",
    "MONAI": "Project-MONAI/MONAI",
    "monai": "Project-MONAI/MONAI",
    "fightingcv-attention": "xmu-xiaoma666/External-Attention-pytorch",
    "fightingcv_attention": "xmu-xiaoma666/External-Attention-pytorch",
    "mmseg": "open-mmlab/mmsegmentation",
    "mmsegmentation": "open-mmlab/mmsegmentation",
    "open-mmlab/mmcv": "mmcv",
    "pytorch/vision": "torchvision",
    "qubvel/segmentation_models.pytorch": "qubvel-org/segmentation_models.pytorch",
    "segmentation-models-pytorch": "qubvel-org/segmentation_models.pytorch",
    "segmentation_models_pytorch": "qubvel-org/segmentation_models.pytorch",
    "vit-pytorch": "lucidrains/vit-pytorch",
}


@dataclass(frozen=True)
class Source:
    """The source of an implementation: a repository or package, and words that name a class."""

    repo: str
    words: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parse ``owner/repo``, ``owner/repo:Class`` or the ``reference`` of a golden test case.

        >>> Source.parse("Jongchan/attention-module@459efad MODELS/cbam.py:CBAM").repo
        'Jongchan/attention-module'
        >>> "CBAM" in Source.parse("Jongchan/attention-module@459efad MODELS/cbam.py:CBAM").words
        True
        >>> Source.parse("equations + pytorch/tutorials@0023ff0 tutorial.py:Net.stn").repo
        'pytorch/tutorials'
        >>> Source.parse("segmentation_models_pytorch")
        Source(repo='qubvel-org/segmentation_models.pytorch', words=frozenset())
        """
        text = text.removeprefix("equations + ").removeprefix("PyPI ").strip()
        repo = re.match(r"[^\s:@,]*", text)[0]  # type: ignore[index]  # it matches any text
        return cls(SAME.get(repo, repo), frozenset(re.findall(r"\w+", text[len(repo) :])))

    def matches(self, known: str) -> bool:
        """Return whether a record's source matches; a source without a class matches all classes.

        >>> Source.parse("timm").matches("timm:SEModule")
        True
        >>> Source.parse("timm:SEModule").matches("timm:SqueezeExcite")
        False
        """
        other = Source.parse(known)
        return self.repo == other.repo and (not self.words or other.words <= self.words)


def only(who: str, given: Mapping[str, object], **known: object) -> None:
    """Raise if an argument of another implementation has a value that cannot be loaded.

    Layers are compared by name, whether the argument is a class, an instance or a name.

    >>> from torch import nn
    >>> only("ECA", {"gate_layer": nn.Sigmoid}, gate_layer="sigmoid", use_mlp=False)
    >>> only("ECA", {"use_mlp": True}, gate_layer="sigmoid", use_mlp=False)
    Traceback (most recent call last):
    ValueError: ECA: use_mlp must be False to be loaded, got True
    """
    for name, want in known.items():
        if name in given and _name_of(given[name]) != _name_of(want):
            raise ValueError(f"{who}: {name} must be {want!r} to be loaded, got {given[name]!r}")


def _name_of(layer: object) -> object:
    if isinstance(layer, partial) and not layer.args and layer.keywords.keys() <= {"inplace"}:
        layer = layer.func
    if not isinstance(layer, type | str) and hasattr(layer, "named_modules"):
        layer = type(layer)
    name = getattr(layer, "__name__", layer)
    return name.lower().replace("_", "") if isinstance(name, str) else name


def rename(state: State, names: Mapping[str, str | tuple[str, ...]]) -> dict[str, Tensor]:
    """Rename the entries of a state dict; a name matches all entries that begin with it.

    ``*`` matches any text without dots, which replaces the ``*`` in the new name. A tuple of names
    splits an entry into as many equal parts along its first axis, for layers that are stacked in
    the other implementation. The longest name that matches is used.

    >>> state = {"fc.0.weight": 1, "fc.0.bias": 2, "gamma": 3, "blocks.1.norm.weight": 4}
    >>> rename(state, {"fc.0": "squeeze", "blocks.*.norm": "layers.*.first"})
    {'squeeze.weight': 1, 'squeeze.bias': 2, 'gamma': 3, 'layers.1.first.weight': 4}
    >>> list(rename({"kv.weight": torch.zeros(4, 2)}, {"kv": ("key", "value")}))
    ['key.weight', 'value.weight']
    """
    patterns = {
        re.compile(re.escape(name).replace(r"\*", r"([^.]+)") + r"(?=\.|$)"): ours
        for name, ours in sorted(names.items(), key=lambda pair: len(pair[0]), reverse=True)
    }
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        found = ((pattern.match(key), ours) for pattern, ours in patterns.items())
        match, ours = next(((m, ours) for m, ours in found if m), (None, ""))
        if match is None:
            renamed[key] = tensor
            continue
        several = (ours,) if isinstance(ours, str) else ours
        parts = tensor.chunk(len(several)) if len(several) > 1 else (tensor,)
        for name, part in zip(several, parts, strict=True):
            for filled in match.groups():
                name = name.replace("*", filled, 1)
            renamed[name + key[match.end() :]] = part
    return renamed


def fill(module: M, state: State) -> M:
    """Load a whole state dict into a module, and convert the module to its dtype.

    Shapes are compared without axes of size one, so that the weights of a linear layer fit a 1x1
    convolution. Batch norms without a counter of batches count from zero.

    Raises:
        ValueError: an entry is missing, left over, or of another shape.
    """
    own = module.state_dict()
    counters = {n: t for n, t in own.items() if n.endswith("num_batches_tracked")}
    state = {**counters, **state}
    wrong = [f"{name} is missing" for name in own.keys() - state.keys()]
    wrong += [f"{name} is unexpected" for name in state.keys() - own.keys()]
    for name in own.keys() & state.keys():
        want, got = own[name].shape, state[name].shape
        if [n for n in want if n != 1] != [n for n in got if n != 1]:
            wrong.append(f"{name} is {tuple(got)}, wanted {tuple(want)}")
    if wrong:
        listed = "; ".join(sorted(wrong))
        raise ValueError(f"{type(module).__name__}: the state does not fit: {listed}")
    dtypes = {t.dtype for t in state.values() if t.is_floating_point()}
    if dtypes:
        module = module.to(max(dtypes, key=lambda d: d.itemsize))
    module.load_state_dict({name: t.reshape(own[name].shape) for name, t in state.items()})
    return module
