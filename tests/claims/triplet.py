"""What the laws try Triplet with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Triplet": Claims(
        dict(), variants=(Variant(dict(channels=16, spatial=False)), Variant(dict(kernel_size=3)))
    )
}
