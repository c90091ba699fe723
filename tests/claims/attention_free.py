"""What the laws try AttentionFree with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "AttentionFree": Claims(
        dict(embed_dim=16),
        variants=(
            Variant(dict(max_length=19), equivariant=()),
            Variant(dict(hidden_dim=24)),
            Variant(dict(max_length=19, window_size=3, hidden_dim=16), equivariant=()),
            Variant(dict(max_length=19, rank=4), equivariant=()),
        ),
        zero_grad={"key.bias": "a constant added to all keys of a channel cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.05, 0.2), float16=(0.01, 0.01, 0.05)),
    )
}
