"""What the laws try AttentionToScale with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AttentionToScale": Claims(
        dict(channels=6, hidden_dim=8),
        variants=(Variant(dict(num_scales=3, hidden_dim=512)), Variant(dict(align_corners=False))),
    )
}
