"""What one row of the table of old classes says, and how an old call is read by it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

Framework = Literal["torch", "keras"]
Options = dict[str, Any]
Shapes = Mapping[str, Sequence[int]]


class Changed(UserWarning):
    """An old class did something else than the mechanism that takes its place."""


@dataclass(frozen=True, kw_only=True)
class Keras:
    """What is otherwise where TensorFlow is concerned.

    Attributes:
        arguments: The arguments, where the class in torch had others.
        was: What the class did otherwise than the twin, where its namesake in torch did not.
    """

    arguments: Callable[..., Options] | None = None
    was: str | None = None


@dataclass(frozen=True, eq=False)
class Old:
    """One old class.

    Attributes:
        module: Its module, as ``attention.SEAttention``.
        name: Its name.
        new: The class of regard that takes its place; none where it is ``refused``.
        arguments: A function with the old arguments, their order and defaults, that returns the
            new ones.
        usage: Arguments as a script would give them.
        call: The class of `regard.compat.modules` and of `regard.compat.layers` that says how it
            is called, where that is not how the new class is called.
        was: What it did that the new class does not, as a clause behind its name.
        before: Options under which the new class does that too.
        sizes: The arguments that can be read off the shapes of its state dict.
        keras: The same for TensorFlow; none where there was no such class, or is no twin.
        refused: Why nothing takes its place.
    """

    module: str
    name: str
    new: str = ""
    arguments: Callable[..., Options] = dict
    usage: str = ""
    call: str = ""
    was: str = ""
    before: Options = field(default_factory=dict)
    sizes: Callable[[Shapes], Options] = lambda shapes: {}
    keras: Keras | None = None
    refused: str = ""

    def reads(self, framework: Framework = "torch") -> Callable[..., Options]:
        """The function that reads its arguments."""
        own = self.keras.arguments if framework == "keras" and self.keras else None
        return own or self.arguments

    def did(self, framework: Framework = "torch") -> str:
        """What it did otherwise, or nothing."""
        own = self.keras.was if framework == "keras" and self.keras else None
        return self.was if own is None else own

    def said(self, args: Sequence[Any], kwargs: Options, framework: Framework = "torch") -> Options:
        """The arguments of an old call by name.

        Raises:
            TypeError: an argument is unknown, or there are too many.
        """
        return dict(self._bound("bind_partial", args, kwargs, framework).arguments)

    def given(
        self, args: Sequence[Any], kwargs: Options, framework: Framework = "torch"
    ) -> Options:
        """The same with the defaults of those that were not said.

        Raises:
            TypeError: an argument is missing too.
        """
        bound = self._bound("bind", args, kwargs, framework)
        bound.apply_defaults()
        return dict(bound.arguments)

    def _bound(
        self, how: str, args: Sequence[Any], kwargs: Options, framework: Framework
    ) -> inspect.BoundArguments:
        signature = inspect.signature(self.reads(framework))
        try:
            return getattr(signature, how)(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{_plain(signature)}: {error}") from None

    def call_of(
        self,
        args: Sequence[Any],
        kwargs: Options,
        options: Sequence[str],
        *,
        framework: Framework = "torch",
        as_before: bool = False,
    ) -> tuple[Options, Options]:
        """Read an old call: its own arguments by name, and those of the new class.

        Args:
            args: What was given by position.
            kwargs: What was given by name; options of the new class may be among it.
            options: The names of the new class' options.
            framework: Whose class it is.
            as_before: Choose the options under which the new class does what the old one did.

        Raises:
            TypeError: an argument is missing or unknown, or there are too many.
        """
        reads = self.reads(framework)
        own = inspect.signature(reads).parameters
        further = {name: value for name, value in kwargs.items() if name not in own}
        for name in further.keys() - set(options):
            close = get_close_matches(name, [*own, *options], n=1)
            hint = f'did you mean "{close[0]}"?' if close else "there are " + ", ".join(own)
            raise TypeError(f'{self.name}: no argument "{name}"; {hint}')
        given = self.given(args, {n: v for n, v in kwargs.items() if n in own}, framework)
        new = {n: value for n, value in reads(**given).items() if n in options}
        return given, {**new, **(self.before if as_before else {}), **further}

    def tell(self, framework: Framework, options: Options) -> str:
        """What a user should know who makes one with these options; nothing if all is the same."""
        same = self.before and all(options.get(n) == value for n, value in self.before.items())
        if not self.did(framework) or same:
            return ""
        where = "regard.keras." if framework == "keras" else "regard."
        text = f"{self.name} {self.did(framework)}; {where}{self.new}, which takes its place, "
        return text + (f"does so with {self.as_it_was} only" if self.before else "does not")

    def code(self, given: Options) -> str:
        """How the new class is made so that it does what the old one did.

        >>> Old("attention.X", "X", "ECA", lambda k=3: dict(channels=None, kernel_size=k)).code({})
        'regard.ECA(channels=None, kernel_size=3)'
        """
        options = {**self.arguments(**given), **self.before}
        return f"regard.{self.new}({_written(options)})"

    @property
    def as_it_was(self) -> str:
        """The options of ``before``, as they are written."""
        return _written(self.before)


def _written(options: Options) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _plain(signature: inspect.Signature) -> str:
    """The arguments without their types, as the old code wrote them."""
    bare = (p.replace(annotation=p.empty) for p in signature.parameters.values())
    return str(inspect.Signature(list(bare)))
