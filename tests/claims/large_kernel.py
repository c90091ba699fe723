"""What the laws try LargeKernel, LargeKernelBlock with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "LargeKernel": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=9, dilation=2)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_size=9)),
        ),
    ),
    "LargeKernelBlock": Claims(
        dict(channels=12),
        variants=(
            Variant(dict(kernel_size=9, dilation=2)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_size=9)),
        ),
    ),
}
