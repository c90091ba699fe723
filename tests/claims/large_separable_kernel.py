"""What the laws try LargeSeparableKernel and its block with, and what they should find."""

from . import Claims, Variant

VARIANTS = (
    Variant(dict(kernel_size=23)),
    Variant(dict(kernel_size=21, dilation=4)),
    Variant(dict(dims=1)),
    Variant(dict(dims=3)),
)

CLAIMS = {
    "LargeSeparableKernel": Claims(dict(channels=16), VARIANTS),
    "LargeSeparableKernelBlock": Claims(dict(channels=12), VARIANTS),
}
