"""What the laws try DeformableLargeKernel and its block with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

VARIANTS = (Variant(dict(offsets="separable")),)

CLAIMS = {
    "DeformableLargeKernel": Claims(
        dict(channels=4),
        VARIANTS,
        rounding=Rounding(PLACE, bfloat16=(0.02, 0.09, 0.3), float16=(0.01, 0.02, 0.05)),
    ),
    "DeformableLargeKernelBlock": Claims(
        dict(channels=4),
        VARIANTS,
        rounding=Rounding(PLACE, bfloat16=(0.01, 0.02, 0.4), float16=(0.01, 0.01, 0.04)),
    ),
}
