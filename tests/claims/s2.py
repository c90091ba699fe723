"""What the laws try S2 with, and what they should find."""

from . import Claims

CLAIMS = {"S2": Claims(dict(channels=12))}
