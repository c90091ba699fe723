"""What `install` was asked for, and what has been said already."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from .legacy import Changed, Framework


@dataclass
class Settings:
    """How old classes are made in this process.

    Attributes:
        framework: Whose classes they are; found out from the script if None.
        legacy_behavior: Have them do what they did, where an option of the new class allows it.
        warned: The classes whose difference was told.
    """

    framework: Framework | None = None
    legacy_behavior: bool = False
    warned: set[type] = field(default_factory=set)

    def warn(self, cls: type, text: str) -> None:
        """Warn whoever makes an object of a class, the first time."""
        if text and cls not in self.warned:
            self.warned.add(cls)
            warnings.warn(text, Changed, stacklevel=3)


settings = Settings()
