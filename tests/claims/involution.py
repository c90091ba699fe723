"""What the laws try Involution with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "Involution": Claims(
        dict(channels=16, kernel_size=3, group_width=8),
        variants=(
            Variant(dict(stride=2, reduction=2)),
            Variant(dict(kernel_size=7, bias=True)),
            Variant(dict(kernel_size=1), equivariant=("pixels",), independent=("pixels",)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.02, 0.02, 0.02)),
    )
}
