"""What the laws try SelectiveKernel with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SelectiveKernel": Claims(
        dict(in_channels=16, groups=4, min_hidden_dim=8),
        variants=(
            Variant(dict(kernel_sizes=(3, 5, 7), stride=2, out_channels=24)),
            Variant(dict(kernel_sizes=(1, 3), dilation=2)),
            Variant(dict(dilate=False, hidden_dim=5)),
            Variant(dict(reduction=1)),
            Variant(dict(norm=False)),
        ),
    )
}
