"""Inserting attention into a built model, and removing it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Sequence
from copy import deepcopy
from typing import Literal

from torch import nn

from ..core.attention import Mechanism
from .adoption import adopt
from .dry_run import Example
from .files import load, save
from .places import At
from .plan import Plan
from .planning import PlannedInsertion, plan_insertions
from .recipe import Recipe, recipe
from .replacing import plan_replacements
from .site import (
    Insertion,
    Replacement,
    described,
    exchanged,
    outermost,
    removed,
)
from .training import attention_parameters, freeze, parameter_groups, unfreeze
from .wrapper import innermost

__all__ = [
    "Insertion",
    "Plan",
    "Recipe",
    "adopt",
    "attention_parameters",
    "freeze",
    "insert",
    "insertions",
    "load",
    "parameter_groups",
    "plan",
    "recipe",
    "remove",
    "replace",
    "save",
    "unfreeze",
]

logger = logging.getLogger(__name__)


def insert(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    layout: str | None = None,
    outputs: Collection[int | str] | None = None,
    runs: Collection[int] | None = None,
    skip: Literal["unfit"] | None = None,
    example_input: Example = None,
    **options: object,
) -> nn.Module:
    r"""Insert a mechanism into a copy of a built model.

    The module at a place is wrapped together with the mechanism, which its output passes through.
    The module is still what conversions, freezing, fusing and quantization find, while the
    mechanism is left alone by them. All names in the state dict stay valid: those of the mechanism
    are ``<place>.attention.*``, and ``attention_2`` for a second one, which runs after the first.
    Only `named_parameters` and `named_modules` name the wrapped module too, as
    ``<place>._attended.*``. Attributes of the module can be read and set through the wrapper.

    Which axis of a tensor is which is established by following the axes through one run, from the
    layers that read them; where that leaves two readings, the place is refused. Tokens of an image
    are put into the order of the image of each pass, and class tokens are not changed; after the
    last block, attention therefore matters only if the head reads the other tokens.

    Three presets choose modules:

    - ``residual``: the ends of residual branches. A tensor is added to what was computed from it,
      where the shortcut is whole and contains at most one convolution; chosen is the outermost
      module in the branch that the whole branch passes through: the last norm of a ResNet's block,
      the attention and the MLP of a transformer's.
    - ``block``: each module that adds in this way, and all others of its class, such as a
      MobileNet's blocks of stride 2; never the model itself. In a model without residual additions:
      the modules of the classes that occur repeatedly, or the last ones before the resolution
      changes.
    - ``stage``: the last of consecutive blocks that return the same channels and resolution.

    Args:
        model: Any module that is not compiled; it is not changed.
        mechanism: A key or alias of the catalog, or a class; of the kind gate, relation or
            sequence.
        at: A preset, which may be limited to a part of the model (``"backbone.block"``); or the
            name of a module or a glob in which ``*`` stops at dots and ``**`` does not
            (``"layer3.*.bn3"``); or a compiled regular expression, which is searched in the names;
            or a callable that takes name and module and returns a bool. A module that runs several
            times gets one mechanism, which runs as often, or one for each number of channels.
        start: ``identity``: :math:`y = x + \gamma\,(A(x) - x)` with a learned :math:`\gamma` that
            is 0 at first, so that the model computes what it did; no :math:`\gamma` if the
            mechanism itself starts as identity. ``paper``: :math:`y = A(x)`.
        layout: The axes of the tensors at the places, such as ``"n b c"``, where they cannot be
            established: ``b``, ``c``, and ``h w``, ``t h w``, ``l`` (a sequence) or ``n`` (tokens).
        outputs: Indices or keys of the outputs to attend, of a module that returns several tensors;
            all by default, each with a mechanism of its own.
        runs: Numbers of the runs to follow, of a module that runs several times in each pass
            through the module that it belongs to: 0 is the first; all by default.
        skip: ``"unfit"`` leaves out the modules that the mechanism cannot follow, with a warning
            that has the reasons; by default they are an error.
        example_input: Input of the model: a tensor, a tuple of arguments or a dictionary of
            keyword arguments. Without it, images, volumes or sequences are tried, as the first
            convolution reads them, of the size that is found in the model's attributes or of usual
            sizes.
        options: Options of the mechanism; the number of channels is inferred, and ``dims`` too.

    Returns:
        A new model; `insertions` lists the mechanisms in it.

    Raises:
        ValueError: nothing matches, or the mechanism cannot follow a module; the message says why
            and lists possible modules. Or the mechanism is of another kind.
        TypeError: the mechanism has no such option.

    Warns:
        UserWarning: some of several places are left out, because the mechanism makes no sense
            there: the tokens are no image, or nothing reads them; or because of ``skip``.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    >>> new, x = insert(net, "se", at="1", reduction=2), torch.randn(2, 3, 9, 7)
    >>> torch.equal(new(x), net(x))
    True
    >>> print(*insertions(new))
    squeeze_excitation after 1: 8 channels of b c h w, 65 parameters
    """
    found = plan(
        model,
        mechanism,
        at,
        start=start,
        layout=layout,
        outputs=outputs,
        runs=runs,
        skip=skip,
        example_input=example_input,
        **options,
    )
    _warn_of_trainer(model, "regard.hosts.ultralytics.insert(yolo, …) is kept")
    new = found.apply()
    _log(found.planned)
    return new


def plan(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At = "residual",
    *,
    start: Literal["identity", "paper"] = "identity",
    layout: str | None = None,
    outputs: Collection[int | str] | None = None,
    runs: Collection[int] | None = None,
    skip: Literal["unfit"] | None = None,
    example_input: Example = None,
    **options: object,
) -> Plan:
    """Return what `insert` would do, without building anything.

    Args:
        model: As for `insert`, as are all other arguments.
        mechanism: The mechanism to insert.
        at: The modules that it follows.
        start: ``identity`` or ``paper``.
        layout: The axes of the tensors.
        outputs: The outputs to attend.
        runs: The runs to follow.
        skip: Whether modules that it cannot follow are left out.
        example_input: Input of the model.
        options: Options of the mechanism.

    Returns:
        A sequence of insertions, with ``table()`` and ``apply()``, which returns the new model;
        ``skipped`` has the modules that are left out.

    Raises:
        ValueError: as for `insert`.
        TypeError: as for `insert`.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    >>> plan(net, "se", at="0", reduction=2)[0].parameters
    65
    """
    planned, skipped = plan_insertions(
        model, mechanism, at, start, layout, outputs, runs, example_input, options, skip
    )
    return Plan(model, planned, skipped)


def replace(
    model: nn.Module,
    mechanism: str | type[Mechanism],
    at: At,
    *,
    skip: Literal["unfit"] | None = None,
    example_input: Example = None,
    **options: object,
) -> nn.Module:
    """Replace convolutions by a mechanism, in a copy of a built model.

    The mechanism gets the convolution's channels, stride, dilation, groups, … as far as it has such
    options; the old convolution is stored in it, outside the state dict, for `remove`.

    A mechanism that sums the points or copies of a kernel starts from the kernel and bias that were
    there. `DynamicConv`, `CondConv`, and `DeformableConv` with ``modulator="doubled"`` or None then
    compute at first what the convolution did, if the options leave its geometry as it is; the
    paper's sigmoid modulators of `DeformableConv`, the default, start at a half and halve the
    output, but for the bias. All others compute something else than a convolution, or normalize
    what it gives, and start with new weights: train the model after it.

    Args:
        model: Any module that is not compiled; it is not changed.
        mechanism: A key or alias of the catalog, or a class; of the kind convolution.
        at: Names of `torch.nn.Conv2d` modules, as in `insert`; there are no presets.
        skip: ``"unfit"`` leaves out what cannot be replaced, with a warning.
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
    _warn_of_trainer(model, "replaced convolutions are kept by a loop of your own only")
    planned, _ = plan_replacements(model, mechanism, at, example_input, options, skip)
    new = deepcopy(model)
    for one in planned:
        old = innermost(outermost(new, one.insertion.path))
        attention = one.build().to(one.device, one.dtype)
        if isinstance(old, nn.Conv2d):
            attention.start_from(old)
        built = Replacement(attention, old, one.insertion.layout)
        new = exchanged(new, old, built.train(old.training))
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
    _warn_of_trainer(model, "regard.hosts.ultralytics.remove(yolo) is for good")
    return removed(model, at)


def insertions(model: nn.Module) -> list[Insertion]:
    """List the mechanisms that `insert` and `replace` added to a model."""
    return described(model)


def _warn_of_trainer(model: nn.Module, advice: str) -> None:
    if any(cls.__module__.startswith("ultralytics.") for cls in type(model).__mro__):
        warnings.warn(
            f"ultralytics builds a {type(model).__name__} anew from its YAML to train it, whatever "
            f"was changed in it; {advice}",
            stacklevel=3,
        )


def _log(planned: Sequence[PlannedInsertion]) -> None:
    for one in planned:
        logger.info("%s", one.insertion)
    total = sum(one.insertion.parameters for one in planned)
    logger.info("%s parameters in all", f"{total:,}")
