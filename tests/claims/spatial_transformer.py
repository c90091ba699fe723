"""What the laws try SpatialTransformer with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SpatialTransformer": Claims(
        dict(channels=3, size=12, kernel_sizes=(3, 3), widths=(4, 5), hidden=6),
        variants=(Variant(dict(align_corners=True)), Variant(dict(size=(14, 11)))),
    )
}
