"""What the laws try SpatialTransformer with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SpatialTransformer": Claims(
        dict(channels=3, input_size=12, kernel_sizes=(3, 3), hidden_channels=(4, 5), hidden_dim=6),
        variants=(Variant(dict(align_corners=True)), Variant(dict(input_size=(14, 11)))),
    )
}
