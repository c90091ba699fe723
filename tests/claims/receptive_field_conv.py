"""What the laws try ReceptiveFieldConv with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "ReceptiveFieldConv": Claims(
        dict(in_channels=8),
        variants=(
            Variant(dict(out_channels=12, kernel_size=5, stride=2, norm=False)),
            Variant(dict(form="unfold")),
            Variant(dict(form="cbam", stride=2)),
            Variant(dict(form="coordinate", kernel_size=1, reduction=1, norm=True)),
            Variant(dict(in_channels=12, form="coordinate", reduction=1)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.02, 0.02)),
    )
}
