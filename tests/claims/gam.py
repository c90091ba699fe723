"""What the laws try GAM with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GAM": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(channel_activation="sigmoid")),
            Variant(dict(reduction=2, groups=4, kernel_size=3)),
        ),
    )
}
