"""What the laws try SplitAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "SplitAttention": Claims(
        dict(in_channels=16),
        variants=(
            Variant(dict(out_channels=24, stride=2, groups=2)),
            Variant(dict(radix=1, kernel_size=5)),
            Variant(dict(radix=4, dilation=2, reduction=1)),
            Variant(dict(norm=False, bias=True, hidden_dim=6, padding=2), train_differs=False),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.01, 0.05)),
    )
}
