"""Other people's attention modules, exchanged for ours with their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..catalog import entries
from ..core.attention import Mechanism
from ..factory import load_reference
from ..references import records
from ..references.record import Reference
from .dry_run import Example, dry_run
from .site import exchanged, outermost
from .wrapper import innermost

if TYPE_CHECKING:
    from .dry_run import DryRun

logger = logging.getLogger(__name__)
CLOSE = 1e-5  # difference of the outputs, as a part of the largest entry


@dataclass(frozen=True)
class Recognized:
    """A module of another library that may be one of ours.

    Attributes:
        path: Its name in the model.
        source: The library and its class.
        mechanism: The key of the mechanism.
        problem: Why it cannot be exchanged; empty if it can.
        difference: The difference of the outputs, as a part of the largest entry.
        module: Ours, with its weights.
    """

    path: str
    source: str
    mechanism: str
    problem: str = ""
    difference: float = 0.0
    module: nn.Module | None = None

    def __str__(self) -> str:
        said = self.problem or f"differs by {self.difference:.1e}"
        return f"{self.path}: {self.source} is {self.mechanism}: {said}"


def adopt(model: nn.Module, *, example_input: Example = None) -> nn.Module:
    """Return a copy of a model in which known attention modules of other libraries are ours.

    They have the same weights and give the same outputs, and can then be explained, measured and
    exported like any mechanism of regard. A module is exchanged only if both outputs are equal on a
    random input to a hundred thousandth of their largest entry. Names in the state dict change.

    Args:
        model: Any built module, such as a model of timm or torchvision; it is not changed.
        example_input: Input of the model, as for `regard.insert`.

    Raises:
        ValueError: nothing is recognized; the message says what was, and why it was left.

    >>> from torchvision.ops import SqueezeExcitation
    >>> net = nn.Sequential(nn.Conv2d(3, 16, 3), SqueezeExcitation(16, 4))
    >>> adopt(net)[1]
    SqueezeExcitation(
      channels=16, hidden_dim=4, bias=True
      ...
    """
    new = deepcopy(model)
    found = [*recognized(new, example_input)]
    for one in found:
        logger.info("%s", one)
        if one.module is not None:
            old = outermost(new, one.path)
            new = exchanged(new, innermost(old), one.module.train(old.training))
    if not any(one.module for one in found):
        seen = "".join(f"\n{one}" for one in found)
        raise ValueError(
            f"{type(model).__name__} has no attention of another library that is known to be "
            f"one of regard's{':' if seen else ''}{seen}"
        )
    return new


def recognized(model: nn.Module, example_input: Example = None) -> Iterator[Recognized]:
    """Yield the modules of other libraries that have the name of a known class."""
    known = _known()
    named = {name: innermost(module) for name, module in model.named_modules()}
    wanted = {
        name: known[label] for name, module in named.items() if (label := _label(module)) in known
    }
    run = dry_run(model, example_input) if wanted else None
    for name, (key, record) in wanted.items():
        yield _tried(name, named[name], key, record, run)


def _tried(
    name: str, module: nn.Module, key: str, record: Reference, run: DryRun | None
) -> Recognized:
    if not record.loads:
        return Recognized(name, record.source, key, f"not the same, because it {record.differs}")
    calls = [call for call in run.of(name) if call.given] if run else []
    if not calls:
        return Recognized(name, record.source, key, "it did not run")
    try:
        ours = load_reference(key, record.source, {}, module.state_dict()).eval()
    except (TypeError, ValueError) as e:
        return Recognized(name, record.source, key, f"its arguments are unknown: {e}")
    given = calls[0].given[0]
    like = next(module.parameters(), torch.empty(0, dtype=given.dtype, device=given.device))
    ours = ours.to(like.device, like.dtype)
    training, x = module.training, torch.randn(given.shape).to(like.device, like.dtype)
    try:
        with torch.no_grad():
            theirs, own = module.eval()(x), ours(x)
    except (RuntimeError, ValueError, TypeError) as e:
        return Recognized(name, record.source, key, f"it takes another input: {e}")
    finally:
        module.train(training)
    if not isinstance(theirs, Tensor) or not isinstance(own, Tensor) or theirs.shape != own.shape:
        return Recognized(name, record.source, key, "it returns something else")
    off = ((own - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
    if not off <= CLOSE:
        return Recognized(name, record.source, key, f"its outputs differ by {off:.1e}", off)
    return Recognized(name, record.source, key, "", off, ours)


def _known() -> dict[str, tuple[str, Reference]]:
    """Return the records of classes in packages, by package and class; those that load go first."""
    found: dict[str, tuple[str, Reference]] = {}
    for key, entry in entries().items():
        if not entry.card.plug:
            continue
        for record in records(key):
            if "/" not in record.repo and record.class_name:
                label = f"{record.repo}:{record.class_name.rpartition('.')[2]}"
                if label not in found or (record.loads and not found[label][1].loads):
                    found[label] = key, record
    return found


def _label(module: nn.Module) -> str:
    cls = type(module)
    return (
        ""
        if isinstance(module, Mechanism)
        else f"{cls.__module__.partition('.')[0]}:{cls.__name__}"
    )
