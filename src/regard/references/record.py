"""Facts about one class of another implementation: one record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .reading import State, only, rename

if TYPE_CHECKING:
    from torch import Tensor, nn

Options = dict[str, Any]
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Legacy:
    """Facts about a class of the libraries that `regard.compat` replaces.

    Attributes:
        module: The module of the class, such as ``attention.SEAttention``.
        usage: Arguments as in a script.
        call: The class in `regard.compat.modules` and `regard.compat.layers` that adapts calls, if
            the old class was called in another way.
        keras: Facts about the class for TensorFlow; None if there was no such class, or if regard
            has none for Keras.
    """

    module: str
    usage: str = ""
    call: str = ""
    keras: LegacyKeras | None = None


@dataclass(frozen=True, kw_only=True)
class LegacyKeras:
    """Differences of the class for TensorFlow from its namesake for torch.

    Attributes:
        arguments: Its arguments, if they were different.
        differs: What it did that regard's class for Keras does not; None if as for torch.
    """

    arguments: Callable[..., Options] | None = None
    differs: str | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """Translates a class of another repository or package, its source, to regard.

    Attributes:
        source: ``owner/repo:Class`` or ``package:Class``; without a class if the source has only
            one of the kind.
        arguments: A function with the parameters of the source's class, in their order and with
            their defaults, that returns the options of regard's class. A first parameter called
            ``shapes`` gets the shapes in the state dict, for options that only the weights
            determine. None if nothing can be loaded.
        names: New names of the entries in the state dict; see `rename`.
        fixed: Arguments that can be loaded with these values only; layers are compared by name.
        ignored: Arguments that have no effect here, or that the weights determine.
        unread: Entries that the source's class does not use, as globs.
        middle: Kernels of which only the middle slice of their first axis of space acts, since the
            input is one slice thick there.
        builds: Name of regard's class, by default that of the mechanism; or a function of the
            options that returns a module.
        adapt: A function of the state dict and regard's module that returns a changed state dict,
            if renaming is not enough; it runs before renaming.
        sizes: A function that infers arguments of the source's class from the shapes in its state
            dict.
        map: Axes of its attention map; empty if it computes none.
        map_names: Names of its maps here, where they differ.
        differs: What it does that regard's class does not, as the rest of a sentence that begins
            with its name.
        before: Options with which regard's class does that too.
        loads: Whether its weights can be loaded, with those options if there are any.
        legacy: Facts for `regard.compat`.
    """

    source: str
    arguments: Callable[..., Options] | None = None
    names: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    _: KW_ONLY
    fixed: Options = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    middle: tuple[str, ...] = ()
    builds: str | Callable[[Options], nn.Module] = ""
    adapt: Callable[[dict[str, Tensor], nn.Module], State] | None = None
    sizes: Callable[[Shapes], Options] = lambda shapes: {}
    map: str = ""
    map_names: Mapping[str, str] = field(default_factory=dict)
    differs: str = ""
    before: Options = field(default_factory=dict)
    loads: bool = True
    legacy: Legacy | None = None

    @property
    def repo(self) -> str:
        """The repository or package."""
        return self.source.partition(":")[0]

    @property
    def name(self) -> str:
        """The class, or an empty string."""
        return self.source.partition(":")[2]

    @property
    def class_name(self) -> str:
        """The class, without its file."""
        return self.name.rpartition(":")[2]

    @property
    def needs_shapes(self) -> bool:
        """Whether only the weights determine some options."""
        return "shapes" in inspect.signature(self.arguments or dict).parameters

    def signature(self, arguments: Callable[..., Options] | None = None) -> inspect.Signature:
        """Return the signature of the class, from ``arguments`` if it is not None."""
        whole = inspect.signature(arguments or self.arguments or dict).parameters
        own = [p.replace(annotation=p.empty) for name, p in whole.items() if name != "shapes"]
        return inspect.Signature(own)

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Options:
        """Return the arguments of a call by name.

        Raises:
            TypeError: there are too many, or one is given twice.
        """
        signature = self.signature()
        try:
            return {**signature.bind_partial(*args).arguments, **kwargs}
        except TypeError as error:
            raise TypeError(f"{self.class_name}{signature}: {error}") from None

    def complete(self, kwargs: Mapping[str, Any], shapes: Shapes) -> Options:
        """Complete the arguments of its constructor, from the shapes in its state and defaults.

        Raises:
            TypeError: an argument is unknown or missing.
            ValueError: an argument has a value that cannot be loaded.
        """
        signature = self.signature()
        who = self.name or self.repo
        known = [*signature.parameters, *self.fixed, *self.ignored, "device", "dtype"]
        for name in kwargs.keys() - set(known):
            close = get_close_matches(name, known, n=1)
            hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(known)}"
            raise TypeError(f'{who} has no argument "{name}"; {hint}')
        only(who, kwargs, **self.fixed)
        own = {name: value for name, value in kwargs.items() if name in signature.parameters}
        try:
            inferred = self.sizes(shapes)
        except (KeyError, IndexError, ZeroDivisionError):  # the weights are not those of the class
            inferred = {}
        given = {n: inferred[n] for n in inferred if n in signature.parameters} | own
        missing = [n for n, p in signature.parameters.items() if p.default is p.empty]
        if missing := [name for name in missing if name not in given]:
            raise TypeError(
                f"{who} needs the argument {' and '.join(missing)}; it takes {signature}"
            )
        bound = signature.bind(**given)
        bound.apply_defaults()
        return dict(bound.arguments)

    def options(self, kwargs: Mapping[str, Any], shapes: Shapes) -> Options:
        """Return the options with which regard's class computes what the source's class does.

        Raises:
            TypeError: an argument of the class is unknown or missing.
            ValueError: an argument has a value that cannot be loaded.
        """
        translate = self.arguments or dict
        completed = self.complete(kwargs, shapes)
        first = (shapes,) if self.needs_shapes else ()
        return {**translate(*first, **completed), **self.before}

    def skips(self, name: str) -> bool:
        """Return whether the source's class does not use an entry of that name."""
        return any(fnmatchcase(name, glob) for glob in self.unread)

    def read(self, state: State) -> dict[str, Tensor]:
        """Return the entries that the source's class uses, and of kernels the slices."""
        kept = {name: t for name, t in state.items() if not self.skips(name)}
        for name in self.middle:
            kept[name] = kept[name][:, :, kept[name].shape[2] // 2]
        return kept

    def translate(
        self, cls: Callable[..., nn.Module], kwargs: Mapping[str, Any], state: State
    ) -> tuple[nn.Module, State]:
        """Return a new module of regard, and the renamed state dict.

        Raises:
            TypeError: an argument of the class is unknown or missing.
            ValueError: an argument has a value that cannot be loaded.
            KeyError: the state lacks an entry.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        options = self.options(kwargs, shapes)
        module = cls(options) if callable(self.builds) else cls(**options)
        read = self.read(state)
        state = read if self.adapt is None else self.adapt(read, module)
        return module, rename(state, self.names)
