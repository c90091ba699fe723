"""What the laws try InvertedResidualMobile with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "InvertedResidualMobile": Claims(
        dict(channels=16, head_dim=4, window_size=3),
        variants=(
            Variant(dict(out_channels=12, window_size=None, kernel_size=5, bias=True)),
            Variant(dict(stride=2, se_ratio=0.25, expansion=1.5, head_dim=8)),
            Variant(dict(group_values=True, mix_first=True)),
            Variant(dict(norm=False, residual=False, window_size=2)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
