"""Old classes: what each took, which mechanism takes its place, how its calls are read.

The two libraries are xmu-xiaoma666/External-Attention-pytorch, of which fightingcv-attention on
PyPI is a copy, and ccfco-Ivan/External-Attention-tensorflow. All that is known of a class stands in
its record in `regard.references`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Literal

from ..catalog import entries, legacy
from ..references import Legacy, Options, Reference, records

Framework = Literal["torch", "keras"]

SOURCE = "xmu-xiaoma666/External-Attention-pytorch"
# Old classes whose place nothing takes, by module, with the reason.
ABSENT = {
    **dict.fromkeys(
        (
            ("attention.CoAtNet", "CoAtNet"),
            ("attention.Crossformer", "CrossFormer"),
            ("attention.DAT", "DAT"),
            ("attention.MOATransformer", "MOATransformer"),
            ("attention.gfnet", "GFNet"),
            ("conv.HorNet", "HorNet"),
        ),
        "a whole network, not a mechanism",
    ),
    **dict.fromkeys(
        (
            ("conv.DepthwiseSeparableConvolution", "DepthwiseSeparableConvolution"),
            ("conv.MBConv", "MBConvBlock"),
        ),
        "a convolution without attention",
    ),
    ("attention.BAM", "ChannelAttention"): "a part of BAMBlock, which is here as a whole",
    ("attention.BAM", "SpatialAttention"): "a part of BAMBlock, which is here as a whole",
    ("attention.DANet", "PositionAttentionModule"): "a part of DAModule, which is here as a whole",
    ("attention.DANet", "ChannelAttentionModule"): "a part of DAModule, which is here as a whole",
    ("attention.MUSEAttention", "Depth_Pointwise_Conv1d"): (
        "a part of MUSEAttention, which is here as a whole"
    ),
    ("attention.S2Attention", "SplitAttention"): "a part of S2Attention, which is here as a whole",
}


class Changed(UserWarning):
    """An old class did something else than the mechanism that takes its place."""


@dataclass(frozen=True, eq=False)
class LegacyClass:
    """One old class.

    Attributes:
        key: The mechanism that takes its place.
        record: What is known of it.
        legacy: Where it stood and how it was called.
    """

    key: str
    record: Reference
    legacy: Legacy

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.class_name

    @property
    def module(self) -> str:
        """Its module, as ``attention.SEAttention``."""
        return self.legacy.module

    @property
    def new(self) -> str:
        """The class of regard that takes its place."""
        builds = self.record.builds
        return builds if isinstance(builds, str) and builds else entries()[self.key].name

    @property
    def before(self) -> str:
        """The options with which the new class does what the old one did, as they are written."""
        return _written(self.record.before)

    def arguments(self, framework: Framework = "torch") -> Callable[..., Options]:
        """The function that reads its arguments."""
        own = self.legacy.keras.arguments if framework == "keras" and self.legacy.keras else None
        return own or self.record.arguments or dict

    def differs(self, framework: Framework = "torch") -> str:
        """What it did that the new class does not, as the rest of a sentence; or nothing."""
        own = self.legacy.keras.differs if framework == "keras" and self.legacy.keras else None
        return self.record.differs if own is None else own

    def bind(self, args: Sequence[object], kwargs: Options, framework: Framework) -> Options:
        """The arguments of an old call by name, with the defaults of those that were not given.

        Raises:
            TypeError: an argument is missing or unknown, or there are too many.
        """
        signature = self.record.signature(self.arguments(framework))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}{signature}: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def bind_call(
        self,
        args: Sequence[object],
        kwargs: Options,
        options: Sequence[str],
        *,
        framework: Framework = "torch",
        legacy_behavior: bool = False,
    ) -> tuple[Options, Options]:
        """Read an old call: its own arguments by name, and those of the new class.

        Args:
            args: What was given by position.
            kwargs: What was given by name; options of the new class may be among it.
            options: The names of the new class' options.
            framework: Whose class it is.
            legacy_behavior: Choose the options with which the new class does what the old one did.

        Raises:
            TypeError: an argument is missing or unknown, or there are too many.
        """
        reads = self.arguments(framework)
        own = inspect.signature(reads).parameters
        further = {name: value for name, value in kwargs.items() if name not in own}
        for name in further.keys() - set(options):
            close = get_close_matches(name, [*own, *options], n=1)
            hint = f'did you mean "{close[0]}"?' if close else "there are " + ", ".join(own)
            raise TypeError(f'{self.name}: no argument "{name}"; {hint}')
        given = self.bind(args, {n: v for n, v in kwargs.items() if n in own}, framework)
        new = {n: value for n, value in reads(**given).items() if n in options}
        return given, {**new, **(self.record.before if legacy_behavior else {}), **further}

    def warning(self, framework: Framework, options: Options) -> str:
        """What a user should know who makes one with these options; nothing if all is the same."""
        before = self.record.before
        same = before and before.items() <= options.items()
        if not self.differs(framework) or same:
            return ""
        where = "regard.keras." if framework == "keras" else "regard."
        text = f"{self.name} {self.differs(framework)}; {where}{self.new}, which takes its place, "
        return text + (f"does so with {self.before} only" if before else "does not")

    def code(self, given: Options) -> str:
        """How the new class is made so that it does what the old one did."""
        options = {**self.arguments()(**given), **self.record.before}
        return f"regard.{self.new}({_written(options)})"


@cache
def legacy_class(module: str, name: str) -> LegacyClass:
    """The old class of that name in that module; see `known`."""
    key = known()[module][name]
    for record in records(key):
        if record.legacy and (record.legacy.module, record.class_name) == (module, name):
            return LegacyClass(key, record, record.legacy)
    raise KeyError(f"{module}.{name}")


@cache
def known() -> dict[str, dict[str, str]]:
    """The keys of the mechanisms that take the place of old classes, by module and class."""
    found: dict[str, dict[str, str]] = {}
    for (module, name), key in legacy().items():
        found.setdefault(module, {})[name] = key
    return found


def classes() -> list[LegacyClass]:
    """All old classes whose place a mechanism takes."""
    return [legacy_class(module, name) for module, names in known().items() for name in names]


def _written(options: Options) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
