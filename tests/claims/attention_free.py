"""What the laws try AttentionFree with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AttentionFree": Claims(
        dict(width=16),
        variants=(
            Variant(dict(length=11), equivariant=()),
            Variant(dict(hidden=24)),
            Variant(dict(length=11, window=3, hidden=16), equivariant=()),
            Variant(dict(length=11, rank=4), equivariant=()),
        ),
        zero_grad={"key.bias": "a constant added to all keys of a channel cancels in the softmax"},
    )
}
