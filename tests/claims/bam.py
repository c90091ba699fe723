"""What the laws try BAM with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "BAM": Claims(
        dict(channels=16, reduction=2),
        variants=(Variant(dict(fusion="sum", norm_position="last")), Variant(dict(dilation=2))),
    )
}
