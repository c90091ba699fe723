"""What the laws try FCA with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "FCA": Claims(
        dict(channels=16, reduction=4, frequencies=8),
        variants=(
            Variant(dict(selection="low", frequencies=4)),
            Variant(dict(selection="bot", size=(14, 9))),
            Variant(dict(frequencies=16)),
        ),
    )
}
