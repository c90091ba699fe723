"""What the laws try dual attention and its parts with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "DualAttention": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(energy="like")), Variant(dict(dims=1)), Variant(dict(dims=3))),
        zero_grad={
            "position.key.bias": "a constant added to a query's scores cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.2, 0.5), float16=(0.01, 0.05, 0.5)),
    ),
    "PositionAttention": Claims(
        dict(channels=12, reduction=3),
        variants=(Variant(dict(reduction=8)), Variant(dict(dims=1)), Variant(dict(dims=3))),
        zero_grad={"key.bias": "a constant added to a query's scores cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.1), float16=(0.01, 0.01, 0.05)),
    ),
    "ChannelAttention": Claims(dict(channels=16), variants=(Variant(dict(energy="like")),)),
}
