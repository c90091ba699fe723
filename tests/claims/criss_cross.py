"""What the laws try CrissCross with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "CrissCross": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(recurrence=1)), Variant(dict(recurrence=3))),
        zero_grad={"key.bias": "a constant added to a query's scores cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.02, 1, 1), float16=(0.01, 0.5, 1)),
    )
}
