"""What the laws try BottleneckTransformer with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "BottleneckTransformer": Claims(
        dict(channels=16, size=(9, 8)),
        variants=(
            Variant(dict(size=6, out_channels=12, num_heads=2, head_dim=5, scale_positions=True)),
            Variant(dict(positions="absolute", bias=True, stride=2)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
