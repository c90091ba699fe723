"""What the laws try FocalModulation with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "FocalModulation": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(levels=3, kernel_size=5, kernel_step=4, bias=False, normalize=True)),
            Variant(dict(norm=True, eps=1e-2, dropout=0.5), train_differs=True),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.01, 0.02, 0.01)),
    )
}
