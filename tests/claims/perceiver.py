"""What the laws try Perceiver with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Perceiver": Claims(
        dict(embed_dim=16),
        variants=(
            Variant(dict(num_heads=2, kdim=12, mlp_ratio=2)),
            Variant(dict(qk_dim=6, value_dim=9, num_heads=3, residual=False)),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
