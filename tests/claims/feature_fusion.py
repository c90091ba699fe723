"""What the laws try FeatureFusion with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "FeatureFusion": Claims(
        dict(in_channels=20, guide_channels=7),
        variants=(
            Variant(dict(out_channels=12, reduction=3)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    )
}
