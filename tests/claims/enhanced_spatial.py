"""What the laws try EnhancedSpatial with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "EnhancedSpatial": Claims(
        dict(channels=16),
        variants=(Variant(dict(reduction=3)),),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.13)),
    ),
}
