"""What the laws try FCA with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "FCA": Claims(
        dict(channels=16, reduction=4, num_frequencies=8),
        variants=(
            Variant(dict(selection="low", num_frequencies=4)),
            Variant(dict(selection="bot", grid_size=(14, 9))),
            Variant(dict(num_frequencies=16)),
        ),
    )
}
