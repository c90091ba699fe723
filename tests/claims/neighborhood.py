"""What the laws try Neighborhood with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Neighborhood": Claims(
        dict(channels=16, num_heads=4, kernel_size=3),
        variants=(
            Variant(dict(kernel_size=5, dilation=2, bias=False), zero_grad=()),
            Variant(dict(kernel_size=(3, 5), dilation=(2, 1), positions=False, scale=0.3)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
