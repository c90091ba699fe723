"""What the laws try ShuffleAttention with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ShuffleAttention": Claims(
        dict(channels=16, groups=2), variants=(Variant(dict(eps=0.1)), Variant(dict(groups=1)))
    )
}
