"""What the laws try CrossCovariance with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "CrossCovariance": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=4, bias=True)),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
    )
}
