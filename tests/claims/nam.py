"""What the laws try NAM with, and what they should find."""

from . import Claims

CLAIMS = {"NAM": Claims(dict(channels=16))}
