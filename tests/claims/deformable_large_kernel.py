"""What the laws try DeformableLargeKernel and its block with, and what they should find."""

from . import Claims, Variant

VARIANTS = (Variant(dict(offsets="separable")),)

CLAIMS = {
    "DeformableLargeKernel": Claims(dict(channels=4), VARIANTS),
    "DeformableLargeKernelBlock": Claims(dict(channels=4), VARIANTS),
}
