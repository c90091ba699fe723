"""What the laws try the asymmetric non-local blocks with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

WIDTHS = dict(out_channels=12, key_channels=5, value_channels=6)
ROUNDING = Rounding(SHARP, bfloat16=(0.01, 0.01, 0.2), float16=(0.01, 0.01, 0.03))

CLAIMS = {
    "AsymmetricNonLocal": Claims(
        dict(channels=16),
        variants=(Variant(dict(**WIDTHS, sizes=(2, 3), dropout=0.5)),),
        rounding=ROUNDING,
    ),
    "AsymmetricFusion": Claims(
        dict(channels=16),
        variants=(Variant(dict(**WIDTHS, guide_channels=7, sizes=(2, 3), dropout=0.5)),),
        rounding=ROUNDING,
    ),
}
