"""``python -m regard``."""

from .cli import main

main()
