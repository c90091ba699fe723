"""What the laws try EffectiveSE with, and what they should find."""

from . import Claims

CLAIMS = {"EffectiveSE": Claims(dict(channels=16))}
