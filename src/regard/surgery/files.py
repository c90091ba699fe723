"""Weights that are stored together with how the insertions of their model are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from os import PathLike

from torch import Tensor, nn

from ..core.attention import Mechanism
from ..core.text import aligned
from .recipe import KEY, Recipe, recipe
from .site import described
from .wrapper import innermost


def save(
    model: nn.Module, file: str | PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the weights of a model to a safetensors file, and how its insertions are made.

    Any program reads the file as the model's state dict; `regard.load` needs a model without
    insertions only.

    Args:
        model: A model with insertions.
        file: The name of the file.
        metadata: More entries for the metadata of the file.

    Raises:
        ValueError: nothing was inserted.
        TypeError: an argument of a mechanism cannot be written, or the state is not tensors alone.
    """
    from safetensors.torch import save_file

    found = recipe(model)
    if not found:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    state = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    # A file of safetensors holds no two names of one tensor.
    copies = {name: x.detach().clone().contiguous() for name, x in state.items()}
    save_file(copies, file, {"format": "pt", KEY: found.to_json(), **(metadata or {})})


def load(
    host: nn.Module,
    file: str | PathLike[str],
    *,
    mechanisms: Iterable[type[Mechanism]] = (),
) -> nn.Module:
    """Return a copy of a model with the insertions and weights of a file of `regard.save`.

    Args:
        host: A model without insertions, or with those of the file.
        file: The name of the file.
        mechanisms: Classes of one's own that were inserted.

    Returns:
        A new model.

    Raises:
        ValueError: the file has no recipe, or does not fit; the message is a table of what differs.

    >>> from regard import insert, save
    >>> host, file = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), getfixture("tmp_path") / "x"
    >>> save(insert(host, "se", at="0", reduction=2), file)
    >>> load(host, file)[0].attention.mechanism
    SqueezeExcitation(
      channels=8, reduction=2
      ...
    >>> load(nn.Sequential(nn.Conv2d(3, 9, 3), nn.ReLU()), file)
    Traceback (most recent call last):
    ValueError: ... does not fit Sequential:
    entry     in the file   in the model
    0.bias    (8,)          (9,)
    0.weight  (8, 3, 3, 3)  (9, 3, 3, 3)
    """
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        found = (opened.metadata() or {}).get(KEY)
        if found is None:
            raise ValueError(f"{file} has no recipe: regard.save writes one")
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    wanted = Recipe.from_json(found)
    if not described(host):
        new = wanted.apply(host, mechanisms=mechanisms)
    elif differing := differences(recipe(host), wanted):
        raise ValueError(f"the insertions in {file} are others:\n{differing}")
    else:
        new = deepcopy(host)
    fill(new, state, str(file))
    return new


def fill(model: nn.Module, state: Mapping[str, Tensor], file: str) -> None:
    """Load a state dict strictly, in place.

    Raises:
        ValueError: entries are missing, unexpected or of another shape; the message has a table.
    """
    own = {n: tuple(x.shape) for n, x in model.state_dict().items() if isinstance(x, Tensor)}
    given = {name: tuple(x.shape) for name, x in state.items()}
    rows = [
        (name, str(given.get(name, "missing")), str(own.get(name, "missing")))
        for name in sorted(own.keys() | given.keys())
        if own.get(name) != given.get(name)
    ]
    if rows:
        more = f"\n… and {len(rows) - 30} more" if len(rows) > 30 else ""
        table = aligned([("entry", "in the file", "in the model"), *rows[:30]], left=3)
        raise ValueError(f"{file} does not fit {type(innermost(model)).__name__}:\n{table}{more}")
    model.load_state_dict(state, strict=True)


def differences(own: Recipe, given: Recipe) -> str:
    """Return a table of the places at which two recipes differ; empty if they do not."""
    here, there = ({(s.path, s.child): s for s in one} for one in (own, given))
    rows = [
        (at[0], str(there.get(at, "nothing")), str(here.get(at, "nothing")))
        for at in sorted(here.keys() | there.keys())
        if here.get(at) != there.get(at)
    ]
    return aligned([("module", "in the file", "in the model"), *rows], left=3) if rows else ""
