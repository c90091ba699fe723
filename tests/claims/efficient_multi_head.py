"""What the laws try EfficientMultiHead with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "EfficientMultiHead": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(transform=False, num_heads=2), zero_grad=("key.bias",)),
            Variant(dict(transform=False, upsample=True, bias=False), zero_grad=("key.bias",)),
            Variant(dict(upsample=True, reduction=1), zero_grad=("key.bias", "mix.bias")),
            Variant(dict(reduction=1, head_dim=3, value_head_dim=5), equivariant=("pixels",)),
            Variant(dict(num_heads=1, reduction=4), zero_grad=("key.bias",)),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={
            "key.bias": "a constant added to all scores of a query cancels in the softmax",
            "mix.bias": "a constant added to all scores of a head cancels in the softmax",
            "value.bias": "the rows of a normalized map sum to zero, so a constant cancels",
            "shrink_norm.bias": "a constant in keys and values cancels in both",
        },
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.2, 0.5), float16=(0.01, 0.02, 0.02)),
    )
}
