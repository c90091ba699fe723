"""What the laws try object context with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "ObjectContext": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(scales=(1, 2), key_channels=6, value_channels=10), equivariant=()),
            Variant(dict(concat=False, dropout=0.5)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 1), float16=(0.01, 0.01, 1)),
    ),
    "PyramidObjectContext": Claims(
        dict(channels=12, scales=(1, 2)),
        variants=(Variant(dict(scales=(3,), dropout=0.5)),),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 1), float16=(0.01, 0.01, 0.5)),
    ),
    "AtrousObjectContext": Claims(
        dict(in_channels=6, hidden_dim=8, dilations=(1, 2), scale=1),
        variants=(Variant(dict(scale=2, dropout=0.5)),),
    ),
}
