"""What the laws try CrossShaped with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "CrossShaped": Claims(
        dict(channels=16, num_heads=4, stripe_width=2),
        variants=(
            Variant(dict(stripe_width=3, bias=False, scale=0.3), zero_grad=()),
            Variant(dict(stripe_width=None)),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
