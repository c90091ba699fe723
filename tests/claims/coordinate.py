"""What the laws try Coordinate with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Coordinate": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(reduction=1)), Variant(dict(min_hidden_dim=3))),
    )
}
