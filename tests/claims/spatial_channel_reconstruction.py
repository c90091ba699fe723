"""What the laws try SpatialChannelReconstruction and its first half with."""

from . import CHAIN, Claims, Rounding, Variant

STEP = {"half_precision_is_close": "a rounded input may be on the other side of the threshold"}

CLAIMS = {
    "SpatialReconstruction": Claims(
        dict(channels=16, groups=4),
        variants=(
            Variant(dict(threshold=0.55), skips=STEP),
            Variant(dict(norm="unbiased"), skips=STEP),
        ),
    ),
    "SpatialChannelReconstruction": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(norm_groups=2, alpha=0.75, reduction=3, groups=4, kernel_size=5)),
            Variant(dict(fusion="pair", threshold=0.4)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.02, 0.02, 0.02)),
    ),
}
