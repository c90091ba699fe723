"""What the laws try DeformableConv with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CLAIMS = {
    "DeformableConv": Claims(
        dict(in_channels=6),
        variants=(
            Variant(
                dict(modulator=None, kernel_size=2, padding="same", groups=2, offset_groups=3),
                starts_as_convolution=True,
            ),
            Variant(
                dict(modulator="doubled", out_channels=12, stride=(2, 1), groups=3, bias=False),
                starts_as_convolution=True,
            ),
            Variant(dict(kernel_size=(3, 5), dilation=2, offset_groups=2)),
            Variant(dict(kernel_size=1, padding="valid")),
        ),
        rounding=Rounding(PLACE, bfloat16=(0.02, 0.2, 0.2), float16=(0.01, 0.05, 0.05)),
    )
}
