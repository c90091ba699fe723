"""What the laws try BAM with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "BAM": Claims(
        dict(channels=16, reduction=2),
        variants=(
            Variant(dict(fusion="sum", norm_position="last")),
            Variant(dict(dilation=2)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, dilation=1)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.05)),
    )
}
