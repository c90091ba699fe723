"""Modules around a module of a network, which leave its names in the state dict as they were."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import count
from types import MappingProxyType
from typing import Any

from torch import nn

from ..core.watching import HOST
from .outputs import Path, tensor_at, with_tensor


class Wrapper(nn.Module):
    """Runs a module, its host, and stands in for it.

    The host's entries keep their names in the state dict. Attributes and methods that the wrapper
    lacks are those of the host, for reading and for setting. Because the host is a child like any
    other, whatever replaces, converts, freezes or fuses layers does so with the host, and leaves
    alone what the wrapper adds.
    """

    # Attributes of the class, so that setting them does not set those of the host.
    _prefix: str = ""  # of its entries in the state dict that was loaded last

    def __init__(self, host: nn.Module) -> None:
        super().__init__()
        self.add_module(HOST, host)
        self.training = host.training
        self.register_state_dict_post_hook(_hide_host)
        self.register_load_state_dict_pre_hook(_show_host)
        self.register_load_state_dict_post_hook(_hide_host_in_messages)

    @property
    def host(self) -> nn.Module:
        """The module that it wraps."""
        return self._modules[HOST]  # type: ignore[return-value]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # A copy must not be made by the host's own method, which would lose the wrapper.
            if name.startswith("__") or HOST not in self.__dict__.get("_modules", ()):
                raise
            return getattr(self.host, name)

    def __setattr__(self, name: str, value: Any) -> None:
        modules = self.__dict__.get("_modules", {})
        mine = name in modules or name in self.__dict__ or hasattr(type(self), name)
        if mine or HOST not in modules:
            super().__setattr__(name, value)
            return
        if isinstance(value, nn.Parameter) and name in self.host._buffers:
            # Of a loader that asked for the buffers of the wrapper, which has none.
            buffer = value.detach()
            buffer.__dict__.update(value.__dict__)
            value = buffer
        try:
            setattr(self.host, name, value)
        except TypeError as e:  # a tensor for a parameter, as torch.func.functional_call sets it
            raise TypeError(
                f"{e}; torch.func.functional_call takes the names of named_parameters()"
            ) from None

    def __delattr__(self, name: str) -> None:
        mine = name in self._modules or name in self.__dict__
        super().__delattr__(name) if mine else delattr(self.host, name)

    # Python looks these up on the class.
    def __len__(self) -> int:
        return len(self.host)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.host)  # type: ignore[call-overload]

    def __getitem__(self, index: Any) -> Any:
        return self.host[index]  # type: ignore[index]

    def __contains__(self, item: Any) -> bool:
        return item in self.host  # type: ignore[operator]

    def __bool__(self) -> bool:
        return True


class Attended(Wrapper):
    """A module and the attention that its output passes through.

    Attributes:
        attention: The inserted attention; the following ones are ``attention_2``, ….
    """

    _paths: Mapping[str, Path] = MappingProxyType({})  # by the name of the attention
    _runs: Mapping[str, frozenset[int]] = MappingProxyType({})  # of those that follow some runs
    _run: int = 0  # in the pass through the module around it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host's output, with its tensors passed through the attention."""
        y = self.host(*args, **kwargs)
        run = self._run
        if self._runs:
            self._run = run + 1
        for name, path in self._paths.items():
            if self._runs and run not in self._runs.get(name, (run,)):
                continue
            attention = self._modules[name]
            y = with_tensor(y, path, attention(tensor_at(y, path))) if path else attention(y)
        return y

    def attend(
        self,
        attention: nn.Module,
        path: Path,
        runs: Collection[int] | None = None,
        name: str = "",
    ) -> str:
        """Add attention for the tensor at a path of the output, and return its name.

        With ``runs`` it follows only those; a `Counted` around it then has to start the count.
        """
        name = name or next(free_names(self))
        self.add_module(name, attention)
        self._paths = {**self._paths, name: path}
        if runs is not None:
            self._runs = {**self._runs, name: frozenset(runs)}
        return name

    def reset_parameters(self) -> None:
        """Initialize the attention, and the host if it knows how."""
        for module in self._modules.values():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()

    def release(self, name: str) -> None:
        """Remove attention."""
        del self._modules[name]
        self._paths = {other: path for other, path in self._paths.items() if other != name}
        self._runs = {other: runs for other, runs in self._runs.items() if other != name}


class Counted(Wrapper):
    """A module in which another one runs several times; at each pass their count starts anew.

    Args:
        host: The module.
        name: The name in it of the one that runs several times.
    """

    _counts: str = ""

    def __init__(self, host: nn.Module, name: str) -> None:
        super().__init__(host)
        self._counts = name

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the host's output."""
        module = self.host.get_submodule(self._counts)
        while isinstance(module, Wrapper):
            if isinstance(module, Attended):
                module._run = 0
            module = module.host
        return self.host(*args, **kwargs)


def innermost(module: nn.Module) -> nn.Module:
    """Return the module inside all wrappers."""
    while isinstance(module, Wrapper):
        module = module.host
    return module


def free_names(module: nn.Module) -> Iterator[str]:
    """Yield those of ``attention``, ``attention_2``, … that are no attributes of the module."""
    names = (f"attention_{number}" if number > 1 else "attention" for number in count(1))
    return (name for name in names if not hasattr(module, name))


def _hide_host(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Take the host out of the names, in the order of the state dict."""
    hidden = prefix + HOST + "."
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + key.removeprefix(hidden) if key.startswith(hidden) else key] = state.pop(key)
    versions = getattr(state, "_metadata", None)
    if versions is not None:  # the versions of modules, such as BatchNorm's
        for key in [key for key in versions if (key + ".").startswith(hidden)]:
            name = (key + ".").replace(hidden, prefix, 1)
            versions[name.removesuffix(".")] = versions.pop(key)


def _show_host(module: Wrapper, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the host into the names again."""
    module._prefix = prefix
    own = tuple(f"{prefix}{name}." for name in module._modules if name != HOST)
    for key in [key for key in state if key.startswith(prefix)]:
        if not key.startswith(own):
            state[f"{prefix}{HOST}.{key.removeprefix(prefix)}"] = state.pop(key)
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        for key in [*versions]:
            if (key + ".").startswith(prefix) and not (key + ".").startswith(own):
                name = f"{prefix}{HOST}.{(key + '.').removeprefix(prefix)}"
                versions[name.removesuffix(".")] = versions[key]


def _hide_host_in_messages(module: Wrapper, incompatible: Any) -> None:
    hidden = module._prefix + HOST + "."
    for names in (incompatible.missing_keys, incompatible.unexpected_keys):
        names[:] = [
            name.replace(hidden, module._prefix, 1) if name.startswith(hidden) else name
            for name in names
        ]
