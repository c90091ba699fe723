"""What the laws try LSK and LSKAttention with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

VARIANTS = (Variant(dict(channels=7)), Variant(dict(dims=1)), Variant(dict(dims=3)))

CLAIMS = {
    "LSK": Claims(
        dict(channels=16), VARIANTS, rounding=Rounding(STEEP, bfloat16=(0.01, 0.06, 0.42))
    ),
    "LSKAttention": Claims(
        dict(channels=12),
        VARIANTS,
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.04, 0.1), float16=(0.01, 0.01, 0.02)),
    ),
}
