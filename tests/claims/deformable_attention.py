"""What the laws try DeformableAttention with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CANCELS = "a constant added to all scores of a query cancels in the softmax"

CLAIMS = {
    "DeformableAttention": Claims(
        dict(channels=16, num_heads=4, groups=2, size=(9, 8)),
        variants=(
            Variant(dict(offset_range=2.0, stride=1, kernel_size=3, size=6, num_heads=2)),
            Variant(dict(positions="fixed", groups=1)),
            Variant(dict(positions="mlp", offset_range=0.5)),
            Variant(dict(positions="convolution", kernel_size=2)),
            Variant(dict(positions="none", offsets=False)),
            Variant(dict(return_places=True, dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": CANCELS},
        rounding=Rounding(PLACE, bfloat16=(0.1, 1, 2), float16=(0.02, 0.5, 1)),
    )
}
