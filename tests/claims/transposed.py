"""What the laws try Transposed with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Transposed": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=4, bias=True)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    )
}
