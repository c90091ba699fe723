"""Putting attention into a built model, and taking it out again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, Literal

from torch import nn

from ..core.attention import Mechanism
from ..core.names import listing
from .places import At, match
from .plan import Plan
from .planning import Place, plan_insertions, plan_replacements
from .site import Insertion, Replacement, detach, guests

__all__ = [
    "Insertion",
    "Plan",
    "attention_parameters",
    "insert",
    "insertions",
    "plan",
    "remove",
    "replace",
]

logger = logging.getLogger(__name__)


def insert(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    example_input: Any = None,
    **options: Any,
) -> nn.Module:
    r"""Put a mechanism into a built model.

    Every old key of the state dict survives. A place is a module; the mechanism becomes its child
    ``attention`` and sees its output through a forward hook. A second one there is ``attention_2``
    and runs after the first. The class tokens of a transformer are left alone; what the last block
    makes of the other tokens matters only to a head that reads them.

    Three presets name places in any model in which residual additions happen: a tensor is added to
    what was computed from it, the shortcut being whole and at most one convolution away.

    - ``residual``: in each branch that is added, the last layer that normalizes, convolves or
      multiplies by a weight, and that all of the branch passes: the last norm of a ResNet, the last
      linear layer of a transformer's attention and of its MLP.
    - ``block``: each module that adds, and all others of its class, such as a MobileNet's blocks of
      stride 2; never the model itself.
    - ``stage``: the last of each run of such blocks that return the same channels and resolution.

    Args:
        model: Any module, not compiled yet; it is left as it is.
        mechanism: A key or alias of the catalog, or a class; of the kind gate, relation or
            sequence.
        at: A preset; or the name of a module or a glob in which ``*`` stops at dots and ``**`` does
            not (``"layer3.*.bn3"``); or a compiled regular expression, which is searched in the
            names; or a callable that gets name and module and says whether. A container
            (`torch.nn.Sequential`, …) stands for the module in it that returns its output, and a
            module that runs several times gets one mechanism that runs as often.
        start: ``identity``: :math:`y = x + \gamma\,(A(x) - x)` with a learned :math:`\gamma`, 0 at
            first, unless the mechanism starts as identity by itself, so that the model computes
            what it did. ``paper``: :math:`y = A(x)` from the start.
        example_input: What the model takes: a tensor, a tuple of arguments or a dictionary of
            keyword arguments. Without it, images of the size that the model names, or of usual
            sizes, are tried.
        options: Options of the mechanism; the number of channels is found.

    Returns:
        A new model; `insertions` lists what is in it.

    Raises:
        ValueError: nothing matches, or a place cannot carry the mechanism; the message says why
            and lists those that exist. Or the mechanism is of another kind.
        TypeError: the mechanism has no such option.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> new, x = insert(net, "se", at="1", reduction=2), torch.randn(2, 3, 9, 7)
    >>> torch.equal(new(x), net(x))
    True
    >>> print(*insertions(new))
    squeeze_excitation after 1: 8 channels of b c h w, 65 parameters
    """
    found = plan(model, mechanism, at, start=start, example_input=example_input, **options)
    new = found.apply()
    _report(found.places)
    return new


def plan(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    example_input: Any = None,
    **options: Any,
) -> Plan:
    """Say what `insert` would do, without building anything.

    Args:
        model: As for `insert`, like all the others.
        mechanism: What to insert.
        at: Where.
        start: How it starts.
        example_input: What the model takes.
        options: Options of the mechanism.

    Returns:
        A sequence of insertions, with ``table()`` and ``apply()``, which returns the new model.

    Raises:
        ValueError: `insert` would refuse.
        TypeError: the mechanism has no such option.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> plan(net, "se", at="0", reduction=2)[0].parameters
    65
    """
    return Plan(model, plan_insertions(model, mechanism, at, start, example_input, options))


def replace(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At,
    *,
    example_input: Any = None,
    **options: Any,
) -> nn.Module:
    """Put a mechanism where convolutions stand.

    What a convolution does is handed on as far as the mechanism has the options: its channels,
    stride, dilation, groups, … What it cannot do is refused. The weights of the mechanism are new;
    the old convolution is kept beside it, outside the state dict, for `remove`.

    Args:
        model: Any module, not compiled yet; it is left as it is.
        mechanism: A key or alias of the catalog, or a class; of the kind convolution.
        at: Names of `torch.nn.Conv2d` modules, as in `insert`; there are no presets.
        example_input: What the model takes, as in `insert`.
        options: Options of the mechanism, which override what the convolution says.

    Returns:
        A new model; `insertions` lists what is in it.

    Raises:
        ValueError: nothing matches, or a match is no convolution, or does what the mechanism cannot
            do; or the mechanism is of another kind.
        TypeError: the mechanism has no such option.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, padding=1))
    >>> new = replace(net, "selective_kernel", at="1")
    >>> print(*insertions(new))
    selective_kernel in place of 1: 8 channels of b c h w, 2,016 parameters
    """
    places = plan_replacements(model, mechanism, at, example_input, options)
    new = deepcopy(model)
    for place in places:
        what, like = place.insertion, place.like
        parent, _, name = what.path.rpartition(".")
        old = new.get_submodule(what.path)
        built = Replacement(place.build().to(like.device, like.dtype), old, what.layout)
        setattr(new.get_submodule(parent), name, built.train(old.training))
    _report(places)
    return new


def remove(model: nn.Module, at: At | None = None) -> nn.Module:
    """Take out what `insert` and `replace` put in.

    Args:
        model: A model with insertions; it is left as it is.
        at: Names of places, as in `insert` but without presets; all if none are given.

    Returns:
        A new model; with everything taken out, the one that was there first, bit for bit.

    Raises:
        ValueError: nothing was inserted, or not there; the message lists what was.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> remove(
    ...     insert(net, "se", at="0", reduction=2)
    ... ).state_dict().keys() == net.state_dict().keys()
    True
    """
    there = {what.path: model.get_submodule(what.path) for what in insertions(model)}
    if not there:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    paths = list(there) if at is None else match(at, there.items())
    if not paths:
        raise ValueError(f"nothing was inserted at {at!r}; but at {listing(there, str(at))}")
    new = deepcopy(model)
    for path, child, _ in reversed([*guests(new)]):  # what follows a replacement goes first
        if path in paths:
            detach(new, path, child)
    return new


def insertions(model: nn.Module) -> list[Insertion]:
    """List what `insert` and `replace` put into a model."""
    return [module.report(path, child) for path, child, module in guests(model)]


def attention_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of what was put into a model, to train them before the others.

    >>> net = insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    >>> sum(p.numel() for p in attention_parameters(net.requires_grad_(False)))
    65
    """
    for _, _, module in guests(model):
        yield from module.parameters()


def _report(places: Sequence[Place]) -> None:
    for place in places:
        logger.info("%s", place.insertion)
    total = sum(place.insertion.parameters for place in places)
    logger.info("%s parameters in all", f"{total:,}")
