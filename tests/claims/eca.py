"""What the laws try ECA with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ECA": Claims(
        dict(channels=16), variants=(Variant(dict(kernel_size=5)), Variant(dict(bias=True)))
    )
}
