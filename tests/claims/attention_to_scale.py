"""What the laws try AttentionToScale with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "AttentionToScale": Claims(
        dict(channels=6, hidden_dim=8),
        variants=(Variant(dict(num_scales=3, hidden_dim=512)), Variant(dict(align_corners=False))),
        rounding=Rounding(SHARP, bfloat16=(0.05, 0.1, 1), float16=(0.01, 0.02, 0.05)),
    )
}
