"""What a command line can say of an insertion: what, where, how it starts, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .arguments import AT, START

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..surgery import Plan


@dataclass(frozen=True)
class Request:
    """What ``--insert``, ``--at``, ``--start`` and ``--set`` ask for."""

    mechanism: str
    at: str = AT
    start: str = START
    options: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, network: nn.Module, example: Tensor | tuple[int, ...]) -> Plan:
        """What would go where; ``example`` is an input or its shape."""
        from ..surgery import plan

        return plan(network, self.mechanism, **self._where(example), **self.options)

    def into(self, network: nn.Module, example: Tensor | tuple[int, ...]) -> nn.Module:
        """The model with the mechanism in it."""
        from ..surgery import insert

        return insert(network, self.mechanism, **self._where(example), **self.options)

    def in_python(self) -> str:
        """The line that does it.

        >>> Request("se", options={"reduction": 4}).in_python()
        'model = regard.insert(model, "se", reduction=4)'
        """
        said = {"at": (self.at, AT), "start": (self.start, START)}
        given = {name: value for name, (value, usual) in said.items() if value != usual}
        given |= self.options
        written = "".join(f", {name}={_quoted(value)}" for name, value in given.items())
        return f'model = regard.insert(model, "{self.mechanism}"{written})'

    def _where(self, example: Tensor | tuple[int, ...]) -> dict[str, Any]:
        import torch

        image = torch.randn(example) if isinstance(example, tuple) else example
        return {"at": self.at, "start": self.start, "example_input": image}


def wanted(mechanism: str | None, at: str, start: str, given: Mapping[str, Any]) -> Request | None:
    """What to insert, if anything.

    Raises:
        ValueError: it is said where or how, but not what.
    """
    if mechanism:
        return Request(mechanism, at, start, given)
    if given or (at, start) != (AT, START):
        raise ValueError("--at, --start and --set go with --insert, which is missing")
    return None


def _quoted(value: Any) -> str:
    """A value as Python writes it, text in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)
