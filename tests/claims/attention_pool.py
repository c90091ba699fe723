"""What the laws try AttentionPool with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "AttentionPool": Claims(
        dict(channels=16),
        variants=(Variant(dict(num_heads=2, out_channels=5, image_size=4, positions="sequence")),),
        zero_grad={"key.bias": "it adds the same score to all positions of a query"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.2)),
    )
}
