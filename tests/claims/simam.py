"""What the laws try SimAM with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SimAM": Claims(
        dict(), variants=(Variant(dict(channels=16, eps=0.05)), Variant(dict(unbiased=False)))
    )
}
