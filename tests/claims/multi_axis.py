"""What the laws try MultiAxis with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "MultiAxis": Claims(
        dict(channels=16, num_heads=4, window_size=3),
        variants=(
            Variant(dict(groups="grid", positions="shared")),
            Variant(dict(groups="grid", window_size=(4, 3), bias=False), zero_grad=()),
            Variant(dict(positions="none", scale=0.3)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, window_size=2, groups="grid")),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
