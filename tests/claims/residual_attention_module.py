"""What the laws try ResidualAttentionModule with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "ResidualAttentionModule": Claims(
        dict(channels=16, reduction=2, levels=1),
        variants=(Variant(dict(levels=2, ceil_mode=False, skip_connections=True)),),
        rounding=Rounding(STEEP, bfloat16=(0.02, 0.02, 0.05)),
    )
}
