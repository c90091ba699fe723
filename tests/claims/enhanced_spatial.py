"""What the laws try EnhancedSpatial with, and what they should find."""

from . import CHAIN, STEEP, Claims, Rounding, Variant

CLAIMS = {
    "EnhancedSpatial": Claims(
        dict(channels=16),
        variants=(Variant(dict(reduction=3)),),
        rounding=Rounding(
            f"{CHAIN}; {STEEP}", bfloat16=(0.02, 0.08, 0.3), float16=(0.01, 0.01, 0.08)
        ),
    ),
}
