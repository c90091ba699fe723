"""What the laws try StyleRecalibration with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "StyleRecalibration": Claims(
        dict(channels=16), variants=(Variant(dict(unbiased=False)), Variant(dict(eps=0.05)))
    )
}
