"""The options of an insertion on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arguments import AT, START
from .models import is_yolo

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..surgery import Plan


@dataclass(frozen=True)
class Request:
    """The values of ``--insert``, ``--at``, ``--start`` and ``--set``."""

    mechanism: str
    at: str = AT
    start: str = START
    options: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, network: nn.Module, example: Tensor | tuple[int, ...]) -> Plan:
        """Plan the insertion; ``example`` is an input or its shape."""
        from ..surgery import plan

        return plan(network, self.mechanism, **self._where(example), **self.options)

    def into(self, network: nn.Module, example: Tensor | tuple[int, ...]) -> nn.Module:
        """Return a copy of the model with the mechanism in it."""
        return self.plan(network, example).apply()

    def in_python(self, network: nn.Module | None = None) -> str:
        """Return the line of Python that makes the insertion.

        >>> Request("se", options={"reduction": 4}).in_python()
        'model = regard.insert(model, "se", reduction=4)'
        """
        arguments = {"at": (self.at, AT), "start": (self.start, START)}
        shown = {name: value for name, (value, usual) in arguments.items() if value != usual}
        shown |= self.options
        written = "".join(f", {name}={_quoted(value)}" for name, value in shown.items())
        if network is not None and is_yolo(network):
            return f'regard.hosts.ultralytics.insert(yolo, "{self.mechanism}"{written})'
        return f'model = regard.insert(model, "{self.mechanism}"{written})'

    def _where(self, example: Tensor | tuple[int, ...]) -> dict[str, Any]:
        import torch

        image = torch.randn(example) if isinstance(example, tuple) else example
        return {"at": self.at, "start": self.start, "example_input": image}


def requested(
    mechanism: str | None, at: str, start: str, options: Mapping[str, Any]
) -> Request | None:
    """Return the requested insertion, or None.

    Raises:
        ValueError: there are options of an insertion, but no mechanism.
    """
    if mechanism:
        return Request(mechanism, at, start, options)
    if options or (at, start) != (AT, START):
        raise ValueError("--at, --start and --set go with --insert, which is missing")
    return None


def _quoted(value: Any) -> str:
    """Return a value as Python source, text in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)
