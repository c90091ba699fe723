"""The tensors in what a module returns, by their paths."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..core.tracing import leaf

# The indices, keys or names of fields that lead to a tensor; empty if it is the whole output.
Path = tuple[int | str, ...]


def tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield all tensors in tuples, lists, mappings and dataclasses, each with its path.

    >>> import torch
    >>> x = torch.ones(1)
    >>> [path for path, _ in tensors((x, {"levels": [x, x]}))]
    [(0,), (1, 'levels', 0), (1, 'levels', 1)]
    """
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, item in output.items():
            yield from tensors(item, (*path, key))
    elif isinstance(output, (tuple, list)):
        for i, item in enumerate(output):
            yield from tensors(item, (*path, i))
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from tensors(getattr(output, field.name), (*path, field.name))


@leaf
def tensor_at(output: Any, path: Path) -> Tensor:
    """Return the tensor at a path."""
    for key in path:
        output = getattr(output, str(key)) if _has_fields(output) else output[key]
    return output


@leaf
def with_tensor(output: Any, path: Path, x: Tensor) -> Any:
    """Return the output with another tensor at a path; the given output is not changed."""
    if not path:
        return x
    key, rest = path[0], path[1:]
    if _has_fields(output):
        old = getattr(output, str(key))
        return dataclasses.replace(output, **{str(key): with_tensor(old, rest, x)})
    item = with_tensor(output[key], rest, x)
    if isinstance(output, tuple):
        items = [item if i == key else old for i, old in enumerate(output)]
        return getattr(type(output), "_make", type(output))(items)
    new = copy.copy(output)
    new[key] = item
    return new


def _has_fields(output: Any) -> bool:
    return dataclasses.is_dataclass(output) and not isinstance(output, (Mapping, tuple, list))
