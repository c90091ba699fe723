"""What the laws try StripPooling, MixedPooling with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "StripPooling": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(norm=False, activation=None), train_differs=False),
            Variant(dict(kernel_size=5)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.02, 0.2)),
    ),
    "MixedPooling": Claims(
        dict(channels=16, bins=(5, 3)), variants=(Variant(dict(reduction=2, bins=(1, 2, 6))),)
    ),
}
