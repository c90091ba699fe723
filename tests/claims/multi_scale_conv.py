"""What the laws try MultiScaleConv and its block with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

VARIANTS = (
    Variant(dict(kernel_sizes=(3, 9))),
    Variant(dict(dims=1)),
    Variant(dict(dims=3, kernel_sizes=(3, 7))),
)

CLAIMS = {
    "MultiScaleConv": Claims(dict(channels=16), VARIANTS),
    "MultiScaleConvBlock": Claims(
        dict(channels=12), VARIANTS, rounding=Rounding(CHAIN, bfloat16=(0.02, 0.02, 0.01))
    ),
}
