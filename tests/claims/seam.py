"""What the laws try SEAM with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SEAM": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(depth=2)), Variant(dict(patch_sizes=(2, 3, 5)))),
    )
}
