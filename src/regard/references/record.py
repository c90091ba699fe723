"""What is known of one class that somebody else has written: one record."""

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
    """What an old script needs to know of a class, for `regard.compat`.

    Attributes:
        module: Where the class stood, as ``attention.SEAttention``.
        usage: Arguments as a script would give them.
        call: The class of `regard.compat.modules` and `regard.compat.layers` that says how it is
            called, where that is not how ours is called.
        keras: The same for TensorFlow; None where there was no such class, or there is no twin.
    """

    module: str
    usage: str = ""
    call: str = ""
    keras: LegacyKeras | None = None


@dataclass(frozen=True, kw_only=True)
class LegacyKeras:
    """How the class for TensorFlow was different from its namesake for torch.

    Attributes:
        arguments: Its arguments, where they were different.
        differs: What it did that our twin does not; None where the same holds as for torch.
    """

    arguments: Callable[..., Options] | None = None
    differs: str | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """How a class of another repository or package is written here.

    Attributes:
        source: ``owner/repo:Class`` or ``package:Class``; without a class where the repository has
            one of the kind.
        arguments: A function with the arguments of that class, in their order and with their
            defaults, that returns the options of ours. A first parameter called ``shapes`` gets the
            shapes of the state, for what the weights alone tell. None where nothing can be loaded.
        names: Our names for its entries; see `rename`.
        fixed: Arguments that must have these values to be loaded; a layer is known by its name.
        ignored: Arguments that change nothing here, or that the weights tell.
        unread: Entries that nobody reads there, as globs.
        builds: The class of ours; that of the mechanism unless stated. Or a function of the options
            that returns a module.
        adapt: Changes its state where other names are not enough, before they are given; gets the
            state and our module.
        sizes: Its arguments as far as the shapes of its state tell them.
        map: Axes of its attention map; empty where it computes none.
        differs: What it does that ours does not, as the rest of a sentence that its name begins.
        before: Options with which ours does that too.
        loads: Whether its weights mean the same here, with those options where there are some.
        legacy: What old scripts need to know.
    """

    source: str
    arguments: Callable[..., Options] | None = None
    names: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    _: KW_ONLY
    fixed: Options = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    builds: str | Callable[[Options], nn.Module] = ""
    adapt: Callable[[dict[str, Tensor], nn.Module], State] | None = None
    sizes: Callable[[Shapes], Options] = lambda shapes: {}
    map: str = ""
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
        """The class, or nothing."""
        return self.source.partition(":")[2]

    @property
    def class_name(self) -> str:
        """The class, without the file that it stands in."""
        return self.name.rpartition(":")[2]

    @property
    def needs_shapes(self) -> bool:
        """Whether the weights alone tell some of our options."""
        return "shapes" in inspect.signature(self.arguments or dict).parameters

    def signature(self, arguments: Callable[..., Options] | None = None) -> inspect.Signature:
        """The signature of the class, or of another function in the place of its arguments."""
        whole = inspect.signature(arguments or self.arguments or dict).parameters
        own = [p.replace(annotation=p.empty) for name, p in whole.items() if name != "shapes"]
        return inspect.Signature(own)

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Options:
        """The arguments of a call by name.

        Raises:
            TypeError: there are too many, or one is given twice.
        """
        signature = self.signature()
        try:
            return {**signature.bind_partial(*args).arguments, **kwargs}
        except TypeError as error:
            raise TypeError(f"{self.class_name}{signature}: {error}") from None

    def complete(self, kwargs: Mapping[str, Any], shapes: Shapes) -> Options:
        """The arguments of its constructor: those given, those that the shapes tell, defaults.

        Raises:
            TypeError: an argument is unknown or missing.
            ValueError: an argument has a value for which there is nothing here.
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
            told = self.sizes(shapes)
        except (KeyError, IndexError, ZeroDivisionError):  # the weights are not those of the class
            told = {}
        given = {n: told[n] for n in told if n in signature.parameters} | own
        missing = [n for n, p in signature.parameters.items() if p.default is p.empty]
        if missing := [name for name in missing if name not in given]:
            raise TypeError(
                f"{who} needs the argument {' and '.join(missing)}; it takes {signature}"
            )
        bound = signature.bind(**given)
        bound.apply_defaults()
        return dict(bound.arguments)

    def options(self, kwargs: Mapping[str, Any], shapes: Shapes) -> Options:
        """The options of ours, with which it computes what that class does.

        Raises:
            TypeError: an argument of the class is unknown or missing.
            ValueError: there is nothing here for what it says.
        """
        reads = self.arguments or dict
        given = self.complete(kwargs, shapes)
        first = (shapes,) if self.needs_shapes else ()
        return {**reads(*first, **given), **self.before}

    def skips(self, name: str) -> bool:
        """Whether nobody reads an entry of that name there."""
        return any(fnmatchcase(name, glob) for glob in self.unread)

    def translate(
        self, cls: Callable[..., nn.Module], kwargs: Mapping[str, Any], state: State
    ) -> tuple[nn.Module, State]:
        """Our module, and its state under our names.

        Raises:
            TypeError: an argument of the class is unknown or missing.
            ValueError: there is nothing here for what it says.
            KeyError: the state lacks an entry.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        options = self.options(kwargs, shapes)
        module = cls(options) if callable(self.builds) else cls(**options)
        read = {name: t for name, t in state.items() if not self.skips(name)}
        state = read if self.adapt is None else self.adapt(read, module)
        return module, rename(state, self.names)
