"""What the laws try MobileViTv2, MobileViTv2Block with, and what they should find."""

from . import CHAIN, SHARP, Claims, Rounding, Variant

CLAIMS = {
    "MobileViTv2": Claims(
        dict(embed_dim=16),
        variants=(Variant(dict(activation=None)), Variant(dict(dropout=0.5), train_differs=True)),
        zero_grad={"score.bias": "a constant added to all scores cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.02, 0.01)),
    ),
    "MobileViTv2Block": Claims(
        dict(channels=8, embed_dim=12),
        variants=(
            Variant(dict(embed_dim=None, hidden_dim=10, num_layers=1, patch_size=(3, 2))),
            Variant(dict(kernel_size=5, dilation=2, num_layers=1)),
            Variant(dict(dropout=0.5, attention_dropout=0.25, hidden_dropout=0.1)),
        ),
        zero_grad={"layers.*.attention.score.bias": "a constant added to all scores cancels"},
        rounding=Rounding(CHAIN, bfloat16=(0.02, 0.05, 0.02)),
    ),
}
