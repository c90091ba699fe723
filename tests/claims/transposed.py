"""What the laws try Transposed, TransposedBlock with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "Transposed": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=4, bias=True)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    ),
    "TransposedBlock": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=4, bias=True, expansion=1.5)),
            Variant(dict(norm_bias=False)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.03, 0.03, 0.03)),
    ),
}
