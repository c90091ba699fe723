"""What the laws try SimplifiedAttention with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SimplifiedAttention": Claims(
        dict(embed_dim=16, num_heads=4), variants=(Variant(dict(dropout=0.5), train_differs=True),)
    )
}
