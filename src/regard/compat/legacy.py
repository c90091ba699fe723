"""Old classes: their arguments, their replacements, and how their calls are translated.

The two libraries are xmu-xiaoma666/External-Attention-pytorch, of which fightingcv-attention on
PyPI is a copy, and ccfco-Ivan/External-Attention-tensorflow. The facts about each class are in its
record in `regard.references`.
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
# Old classes that have no replacement, by module, with the reason.
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
    """Warns that an old class computed something other than the mechanism that replaces it."""


@dataclass(frozen=True, eq=False)
class LegacyClass:
    """One old class.

    Attributes:
        key: The mechanism that replaces it.
        record: Facts about the class.
        legacy: Its module, and how it was called.
    """

    key: str
    record: Reference
    legacy: Legacy

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.record.class_name

    @property
    def module(self) -> str:
        """Its module, such as ``attention.SEAttention``."""
        return self.legacy.module

    @property
    def new(self) -> str:
        """The name of the class of regard that replaces it."""
        builds = self.record.builds
        return builds if isinstance(builds, str) and builds else entries()[self.key].name

    @property
    def before(self) -> str:
        """The options with which the new class computes what the old one did, as source code."""
        return _written(self.record.before)

    def arguments(self, framework: Framework = "torch") -> Callable[..., Options]:
        """Return the function that translates its arguments."""
        own = self.legacy.keras.arguments if framework == "keras" and self.legacy.keras else None
        return own or self.record.arguments or dict

    def differs(self, framework: Framework = "torch") -> str:
        """Return what it did that the new class does not, as the rest of a sentence, or ""."""
        own = self.legacy.keras.differs if framework == "keras" and self.legacy.keras else None
        return self.record.differs if own is None else own

    def bind(self, args: Sequence[object], kwargs: Options, framework: Framework) -> Options:
        """Return the arguments of an old call by name, including defaults.

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
        """Translate an old call: return its arguments by name, and those of the new class.

        Args:
            args: The positional arguments.
            kwargs: The keyword arguments; they may include options of the new class.
            options: The names of the new class's options.
            framework: The framework of the class.
            legacy_behavior: Choose the options with which the new class computes what the old one
                did.

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
        """Return the warning about an object with these options, or "" if nothing has changed."""
        before = self.record.before
        same = before and before.items() <= options.items()
        if not self.differs(framework) or same:
            return ""
        where = "regard.keras." if framework == "keras" else "regard."
        text = f"{self.name} {self.differs(framework)}; {where}{self.new}, which replaces it, "
        return text + (f"does so with {self.before} only" if before else "does not")

    def code(self, given: Options) -> str:
        """Return the call of the new class that computes what the old one did."""
        options = {**self.arguments()(**given), **self.record.before}
        return f"regard.{self.new}({_written(options)})"


@cache
def legacy_class(module: str, name: str) -> LegacyClass:
    """Return the old class of that name in that module; see `keys_by_module`."""
    key = keys_by_module()[module][name]
    for record in records(key):
        if record.legacy and (record.legacy.module, record.class_name) == (module, name):
            return LegacyClass(key, record, record.legacy)
    raise KeyError(f"{module}.{name}")


@cache
def keys_by_module() -> dict[str, dict[str, str]]:
    """Return the keys of the mechanisms that replace old classes, by module and class."""
    found: dict[str, dict[str, str]] = {}
    for (module, name), key in legacy().items():
        found.setdefault(module, {})[name] = key
    return found


def classes() -> list[LegacyClass]:
    """Return all old classes that a mechanism replaces."""
    return [
        legacy_class(module, name) for module, names in keys_by_module().items() for name in names
    ]


def _written(options: Options) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
