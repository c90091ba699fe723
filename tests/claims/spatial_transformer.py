"""What the laws try SpatialTransformer with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CLAIMS = {
    "SpatialTransformer": Claims(
        dict(channels=3, input_size=12, kernel_sizes=(3, 3), hidden_channels=(4, 5), hidden_dim=6),
        variants=(Variant(dict(align_corners=True)), Variant(dict(input_size=(14, 11)))),
        rounding=Rounding(PLACE, bfloat16=(0.1, 0.01, 0.01), float16=(0.05, 0.01, 0.01)),
    )
}
