"""What the laws try CascadedGroup with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "CascadedGroup": Claims(
        dict(channels=16, key_dim=5, window_size=3),
        variants=(
            Variant(dict(num_heads=2, kernel_sizes=(3, 5))),
            Variant(dict(num_heads=1, window_size=4)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.03, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
