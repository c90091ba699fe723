"""What the laws try GatedAttentionPooling with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

SHIFT = {"score.bias": "it adds the same score to all instances"}

CLAIMS = {
    "GatedAttentionPooling": Claims(
        dict(embed_dim=16, hidden_dim=6),
        variants=(
            Variant(dict(gated=False)),
            Variant(dict(bias=False), zero_grad=()),
            Variant(dict(num_classes=3)),
        ),
        zero_grad=SHIFT,
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.01, 0.05)),
    )
}
