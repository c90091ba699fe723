"""What the laws try SelfAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "SelfAttention": Claims(
        dict(channels=16, reduction=4),
        variants=(
            Variant(
                dict(value_reduction=None, subsample=False, bias=True),
                equivariant=("pixels",),
                zero_grad={"key.bias": "a constant added to all scores of a query cancels"},
            ),
            Variant(dict(value_reduction=8, residual=False), identity_at_init=False),
            Variant(dict(dims=1)),
            Variant(dict(dims=3), equivariant=("frames",)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.3), float16=(0.01, 0.02, 0.1)),
    )
}
