"""What the laws try Window with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Window": Claims(
        dict(channels=16, num_heads=4, window_size=4, shift_size=2),
        variants=(
            Variant(dict(shift_size=0, bias=False, scale=0.3), zero_grad=()),
            Variant(dict(window_size=(3, 5), shift_size=1, out_bias=False)),
            Variant(dict(scores="cosine", pretrained_size=6), zero_grad=()),
            Variant(dict(scores="cosine", shift_size=0), zero_grad=()),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, window_size=(2, 4, 3), shift_size=1)),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.03, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
