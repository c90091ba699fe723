"""What the laws try PositionSensitiveYOLO with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "PositionSensitiveYOLO": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=None, expansion=0.75, key_ratio=0.3)),
            Variant(dict(form="block", norm_eps=1e-2)),
            Variant(dict(form="block", shortcut=False)),
            Variant(dict(form="attention", num_heads=4)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
