"""What the laws try EfficientMultiScale with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "EfficientMultiScale": Claims(
        dict(channels=16, groups=4), variants=(Variant(dict(groups=2, kernel_size=5)),)
    )
}
