"""What the laws try SelectiveKernel with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SelectiveKernel": Claims(
        dict(in_channels=16, groups=4, floor=8),
        variants=(
            Variant(dict(kernels=(3, 5, 7), stride=2, out_channels=24)),
            Variant(dict(kernels=(1, 3), dilation=2)),
            Variant(dict(dilate=False, hidden=5)),
            Variant(dict(reduction=1)),
            Variant(dict(norm=False)),
        ),
    )
}
