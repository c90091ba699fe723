"""What the laws try Outlook with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Outlook": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(stride=2, bias=True)),
            Variant(dict(kernel_size=5, num_heads=2, scaled=False)),
            Variant(dict(dropout=0.5), train_differs=True),
            Variant(dict(out_dropout=0.5, stride=3), train_differs=True),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.02, 0.05)),
    )
}
