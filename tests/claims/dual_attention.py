"""What the laws try dual attention and its parts with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "DualAttention": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(energy="like")),),
        zero_grad={
            "position.key.bias": "a constant added to a query's scores cancels in the softmax"
        },
    ),
    "PositionAttention": Claims(
        dict(channels=12, reduction=3),
        variants=(Variant(dict(reduction=8)),),
        zero_grad={"key.bias": "a constant added to a query's scores cancels in the softmax"},
    ),
    "ChannelAttention": Claims(dict(channels=16), variants=(Variant(dict(energy="like")),)),
}
