"""What the laws try MobileViTv2, MobileViTv2Block with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "MobileViTv2": Claims(
        dict(width=16),
        variants=(Variant(dict(relu=False)), Variant(dict(dropout=0.5), train_differs=True)),
        zero_grad={"score.bias": "a constant added to all scores cancels in the softmax"},
    ),
    "MobileViTv2Block": Claims(
        dict(channels=8, width=12),
        variants=(
            Variant(dict(width=None, hidden=10, layers=1, patch=(3, 2))),
            Variant(dict(kernel_size=5, dilation=2, layers=1)),
            Variant(dict(dropout=0.5, attention_dropout=0.25, hidden_dropout=0.1)),
        ),
        zero_grad={"layers.*.attention.score.bias": "a constant added to all scores cancels"},
    ),
}
