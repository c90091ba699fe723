"""What the laws try CARAFE with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "CARAFE": Claims(
        dict(channels=8, kernel_size=3, hidden_dim=5),
        variants=(
            Variant(
                dict(
                    scale_factor=3,
                    kernel_size=5,
                    groups=2,
                    encoder_kernel_size=5,
                    encoder_dilation=2,
                )
            ),
            Variant(dict(encoder_kernel_size=1, hidden_dim=64)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.03, 0.06, 0.4), float16=(0.01, 0.01, 0.05)),
    )
}
