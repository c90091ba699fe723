"""What the laws try ParNet with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ParNet": Claims(
        dict(in_channels=16),
        variants=(
            Variant(dict(out_channels=24, stride=2)),
            Variant(dict(stride=3, kernel_size=5, average=False)),
            Variant(dict(norm=False, bias=True)),
            Variant(dict(groups=2, out_channels=12)),
        ),
    )
}
