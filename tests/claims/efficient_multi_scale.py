"""What the laws try EfficientMultiScale with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "EfficientMultiScale": Claims(
        dict(channels=16, groups=4),
        variants=(Variant(dict(groups=2, kernel_size=5)),),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.02, 0.1)),
    )
}
