"""What the laws try AdaptiveFineGrained with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AdaptiveFineGrained": Claims(
        dict(channels=16),
        variants=(Variant(dict(kernel_size=5)), Variant(dict(kernel_size=1))),
    )
}
