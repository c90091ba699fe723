"""What the laws try GAM with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "GAM": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(channel_activation="sigmoid")),
            Variant(dict(reduction=2, groups=4, kernel_size=3)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_size=3)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.2, 1), float16=(0.01, 0.02, 0.05)),
    )
}
