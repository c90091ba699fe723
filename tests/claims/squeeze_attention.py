"""What the laws try SqueezeAttention with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "SqueezeAttention": Claims(
        dict(in_channels=12),
        variants=(
            Variant(dict(out_channels=8, kernel_size=5, interpolation="bilinear")),
            Variant(dict(gate_activation="relu", interpolation="nearest", bias=True)),
            Variant(dict(gate_activation="relu-sigmoid", pool_size=3)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.02, 0.1)),
    )
}
