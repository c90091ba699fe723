"""Inserting attention into a built model, and removing it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Literal

from torch import nn

from ..core.attention import Mechanism
from ..core.names import listing
from .dry_run import Example
from .places import At, match
from .plan import Plan
from .planning import PlannedInsertion, plan_insertions, plan_replacements
from .site import Insertion, Replacement, detach, inserted_modules

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
    example_input: Example = None,
    **options: object,
) -> nn.Module:
    r"""Insert a mechanism into a copy of a built model.

    All names in the state dict stay valid. The mechanism becomes the child ``attention`` of a
    module and is applied to the module's output by a forward hook. A second one is ``attention_2``
    and runs after the first. The class tokens of a transformer are not changed; after the last
    block, attention therefore matters only if the head reads the other tokens.

    Three presets choose modules in any model with residual additions: a tensor is added to what
    was computed from it, where the shortcut is whole and contains at most one convolution.

    - ``residual``: the last layer of each branch that normalizes, convolves or multiplies by a
      weight, and through which the whole branch passes: the last norm of a ResNet's block, the last
      linear layer of a transformer's attention and of its MLP.
    - ``block``: each module that adds, and all others of its class, such as a MobileNet's blocks of
      stride 2; never the model itself.
    - ``stage``: the last of consecutive blocks that return the same channels and resolution.

    Args:
        model: Any module that is not compiled; it is not changed.
        mechanism: A key or alias of the catalog, or a class; of the kind gate, relation or
            sequence.
        at: A preset; or the name of a module or a glob in which ``*`` stops at dots and ``**`` does
            not (``"layer3.*.bn3"``); or a compiled regular expression, which is searched in the
            names; or a callable that takes name and module and returns a bool. A container
            (`torch.nn.Sequential`, …) is replaced by the module in it that returns its output. A
            module that runs several times gets one mechanism, which runs as often.
        start: ``identity``: :math:`y = x + \gamma\,(A(x) - x)` with a learned :math:`\gamma` that
            is 0 at first, so that the model computes what it did; no :math:`\gamma` if the
            mechanism itself starts as identity. ``paper``: :math:`y = A(x)`.
        example_input: Input of the model: a tensor, a tuple of arguments or a dictionary of
            keyword arguments. Without it, images are tried, of the size that is found in the
            model's attributes or of usual sizes.
        options: Options of the mechanism; the number of channels is inferred.

    Returns:
        A new model; `insertions` lists the mechanisms in it.

    Raises:
        ValueError: nothing matches, or the mechanism cannot follow a module; the message says why
            and lists possible modules. Or the mechanism is of another kind.
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
    _log(found.planned)
    return new


def plan(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    example_input: Example = None,
    **options: object,
) -> Plan:
    """Return what `insert` would do, without building anything.

    Args:
        model: As for `insert`, as are all other arguments.
        mechanism: The mechanism to insert.
        at: The modules that it follows.
        start: ``identity`` or ``paper``.
        example_input: Input of the model.
        options: Options of the mechanism.

    Returns:
        A sequence of insertions, with ``table()`` and ``apply()``, which returns the new model.

    Raises:
        ValueError: as for `insert`.
        TypeError: as for `insert`.

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
    example_input: Example = None,
    **options: object,
) -> nn.Module:
    """Replace convolutions by a mechanism, in a copy of a built model.

    The mechanism gets the convolution's channels, stride, dilation, groups, … as far as it has such
    options. Its weights are new; the old convolution is stored in it, outside the state dict, for
    `remove`.

    Args:
        model: Any module that is not compiled; it is not changed.
        mechanism: A key or alias of the catalog, or a class; of the kind convolution.
        at: Names of `torch.nn.Conv2d` modules, as in `insert`; there are no presets.
        example_input: Input of the model, as in `insert`.
        options: Options of the mechanism, which override those of the convolution.

    Returns:
        A new model; `insertions` lists the mechanisms in it.

    Raises:
        ValueError: nothing matches, or a match is not a convolution, or the mechanism has no option
            for what a convolution does; or the mechanism is of another kind.
        TypeError: the mechanism has no such option.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, 2, padding=1))
    >>> new = replace(net, "selective_kernel", at="1")
    >>> print(*insertions(new))
    selective_kernel in place of 1: 8 channels of b c h w, 2,016 parameters
    """
    planned = plan_replacements(model, mechanism, at, example_input, options)
    new = deepcopy(model)
    for one in planned:
        insertion, like = one.insertion, one.like
        parent, _, name = insertion.path.rpartition(".")
        old = new.get_submodule(insertion.path)
        built = Replacement(one.build().to(like.device, like.dtype), old, insertion.layout)
        setattr(new.get_submodule(parent), name, built.train(old.training))
    _log(planned)
    return new


def remove(model: nn.Module, at: At | None = None) -> nn.Module:
    """Remove what `insert` and `replace` added, in a copy of the model.

    Args:
        model: A model with insertions; it is not changed.
        at: Names of modules, as in `insert` but without presets; all by default.

    Returns:
        A new model; with everything removed, the original one, bit for bit.

    Raises:
        ValueError: nothing was inserted, or not there; the message lists the insertions.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> remove(
    ...     insert(net, "se", at="0", reduction=2)
    ... ).state_dict().keys() == net.state_dict().keys()
    True
    """
    modules = {one.path: model.get_submodule(one.path) for one in insertions(model)}
    if not modules:
        raise ValueError(f"{type(model).__name__}: nothing was inserted")
    paths = list(modules) if at is None else match(at, modules.items())
    if not paths:
        raise ValueError(f"nothing was inserted at {at!r}; but at {listing(modules, str(at))}")
    new = deepcopy(model)
    # Reversed, because what follows a replacement has to be removed before it.
    for path, child, _ in reversed([*inserted_modules(new)]):
        if path in paths:
            detach(new, path, child)
    return new


def insertions(model: nn.Module) -> list[Insertion]:
    """List the mechanisms that `insert` and `replace` added to a model."""
    return [module.describe(path, child) for path, child, module in inserted_modules(model)]


def attention_parameters(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters that were added to a model, to train them before the others.

    >>> net = insert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "se", at="0", reduction=2)
    >>> sum(p.numel() for p in attention_parameters(net.requires_grad_(False)))
    65
    """
    for _, _, module in inserted_modules(model):
        yield from module.parameters()


def _log(planned: Sequence[PlannedInsertion]) -> None:
    for one in planned:
        logger.info("%s", one.insertion)
    total = sum(one.insertion.parameters for one in planned)
    logger.info("%s parameters in all", f"{total:,}")
