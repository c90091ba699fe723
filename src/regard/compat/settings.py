"""The arguments of `install`, and the warnings that have been issued."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from .legacy import Changed, Framework


@dataclass
class Settings:
    """How old classes are created in this process.

    Attributes:
        framework: The framework of the classes; inferred from the script if None.
        legacy_behavior: Compute what the old classes did, where the new ones have an option for it.
        warned: The classes that have warned of their difference.
    """

    framework: Framework | None = None
    legacy_behavior: bool = False
    warned: set[type] = field(default_factory=set)

    def warn(self, cls: type, text: str) -> None:
        """Issue the warning of a class, on first use."""
        if text and cls not in self.warned:
            self.warned.add(cls)
            warnings.warn(text, Changed, stacklevel=3)


settings = Settings()
