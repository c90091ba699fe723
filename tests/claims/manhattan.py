"""What the laws try Manhattan with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Manhattan": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(decomposed=True, first_decay=1.0)),
            Variant(dict(decay="weights", decay_range=2.0)),
            Variant(dict(decay="weights", decomposed=True, num_heads=2)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
