"""What the laws try Area with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Area": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(areas=1, kernel_size=5, joint=False)),
            Variant(dict(num_heads=3, areas=3, norm_eps=1e-2)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_size=3)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
