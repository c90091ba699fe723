"""What the laws try AttentionToScale with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AttentionToScale": Claims(
        dict(channels=6, hidden=8),
        variants=(Variant(dict(scales=3, hidden=512)), Variant(dict(align_corners=False))),
    )
}
