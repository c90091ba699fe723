"""What `install` was asked for, and what has been said already."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from .old import Changed, Framework


@dataclass
class Settings:
    """How old classes are made in this process.

    Attributes:
        framework: Whose classes they are; found out from the script if none.
        as_before: Have them do what they did, where an option of the new class says so.
        told: The classes whose difference was told.
    """

    framework: Framework | None = None
    as_before: bool = False
    told: set[type] = field(default_factory=set)

    def tell(self, cls: type, text: str) -> None:
        """Warn whoever makes an object of a class, the first time."""
        if text and cls not in self.told:
            self.told.add(cls)
            warnings.warn(text, Changed, stacklevel=3)


settings = Settings()
