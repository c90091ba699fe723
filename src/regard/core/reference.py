"""Loading what another implementation saved: its name, its entries under our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Source:
    """Where an implementation comes from: a repository or package, and a class in it."""

    repo: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read ``owner/repo``, ``owner/repo:Class`` or a golden's full ``reference``.

        >>> Source.parse("Jongchan/attention-module@459efad MODELS/cbam.py:CBAM")
        Source(repo='Jongchan/attention-module', name='MODELS/cbam.py:CBAM')
        >>> Source.parse("equations + pytorch/tutorials@0023ff0 tutorial.py:Net.stn").repo
        'pytorch/tutorials'
        >>> Source.parse("junfu1115/DANet:CAM_Module").name
        'CAM_Module'
        >>> Source.parse("PyPI vit-pytorch 0.26.7 vit.py:ViT").repo
        'vit-pytorch'
        """
        text = text.removeprefix("equations + ").removeprefix("PyPI ").strip()
        head, _, rest = text.partition(" ")
        head, _, name = head.partition(":")
        return cls(head.partition("@")[0], name or rest)

    def matches(self, known: str) -> bool:
        """Whether this is the source that a card lists as ``owner/repo`` or ``owner/repo:Class``.

        A source that names no class matches every class of its repository.
        """
        repo, _, name = known.partition(":")
        return repo == self.repo and (not name or not self.name or self.is_class(name))

    def is_class(self, name: str) -> bool:
        """Whether the class is called so, wherever in the repository it stands."""
        return self.name.rpartition(":")[2].split(" ")[0] == name


def only(who: str, given: Mapping[str, Any], **known: Any) -> None:
    """Refuse arguments of another implementation that are given otherwise than here.

    A layer is known by its name, whether its class, an instance or the name itself is given.

    >>> only("ECA", {"gate_layer": nn.Sigmoid}, gate_layer="sigmoid", use_mlp=False)
    >>> only("ECA", {"use_mlp": True}, gate_layer="sigmoid", use_mlp=False)
    Traceback (most recent call last):
    ValueError: ECA: use_mlp must be False to be loaded, got True
    """
    for name, want in known.items():
        if name in given and _called(given[name]) != want:
            raise ValueError(f"{who}: {name} must be {want!r} to be loaded, got {given[name]!r}")


def _called(layer: Any) -> Any:
    if isinstance(layer, partial) and not layer.args and layer.keywords.keys() <= {"inplace"}:
        layer = layer.func
    if isinstance(layer, nn.Module):
        layer = type(layer)
    name = getattr(layer, "__name__", layer)
    return name.lower().replace("_", "") if isinstance(name, str) else name


def rename(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Put the entries of a state dict under other names; a name stands for all below it.

    >>> rename({"fc.0.weight": 1, "fc.0.bias": 2, "gamma": 3}, {"fc.0": "squeeze"})
    {'squeeze.weight': 1, 'squeeze.bias': 2, 'gamma': 3}
    """
    renamed = {}
    for key, value in state.items():
        stem = next(
            (
                n
                for n in sorted(names, key=len, reverse=True)
                if key == n or key.startswith(n + ".")
            ),
            "",
        )
        renamed[names[stem] + key[len(stem) :] if stem else key] = value
    return renamed


def unstack(state: Mapping[str, Tensor], stacked: str, parts: Sequence[str]) -> dict[str, Tensor]:
    """Take apart the layers that another implementation stacks in one, at any depth.

    Args:
        state: A state dict.
        stacked: What stands there before ``weight`` and ``bias``.
        parts: The layers in their order, by their names here.

    >>> qkv = {"a.qkv.weight": torch.zeros(6, 2), "a.out.weight": torch.zeros(2, 2)}
    >>> sorted(unstack(qkv, "qkv.", ("q", "k", "v")))
    ['a.k.weight', 'a.out.weight', 'a.q.weight', 'a.v.weight']
    """
    found = {}
    for name, entry in state.items():
        stem, there, kind = name.rpartition(stacked)
        if there and kind in ("weight", "bias") and (not stem or stem.endswith(".")):
            rows = zip(parts, entry.chunk(len(parts)), strict=True)
            found |= {f"{stem}{part}.{kind}": own for part, own in rows}
        else:
            found[name] = entry
    return found


def fill(module: M, state: Mapping[str, Tensor]) -> M:
    """Load a whole state dict, taking over its dtype.

    A linear layer and a 1x1 convolution are the same: sizes of one are ignored in comparing shapes.

    Raises:
        ValueError: an entry is missing, left over, or of another shape.
    """
    own = module.state_dict()
    wrong = [f"{name} is missing" for name in own.keys() - state.keys()]
    wrong += [f"{name} has no place" for name in state.keys() - own.keys()]
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
