"""What the laws try Aggregated with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CANCELS = "a constant added to all scores of a query cancels in the softmax"

CLAIMS = {
    "Aggregated": Claims(
        dict(channels=16, num_heads=4, reduction=1),
        variants=(
            Variant(dict(reduction=2, window_size=5, bias=False, pretrained_size=(5, 6))),
            Variant(dict(pool_size=3, reduction=4, num_heads=2)),
            Variant(dict(window_size=None), zero_grad={"position_out.bias": CANCELS}),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.05, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
