"""What the laws try LocallyGrouped with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "LocallyGrouped": Claims(
        dict(channels=16, num_heads=4, window_size=3),
        variants=(
            Variant(dict(mask_padding=False, bias=False), zero_grad=()),
            Variant(dict(window_size=(4, 2), scale=0.3)),
            Variant(dict(dims=1)),
            Variant(
                dict(dims=3, window_size=(1, 2, 2)),
                equivariant=("frames",),
                independent=("frames",),
            ),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
