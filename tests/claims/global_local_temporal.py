"""What the laws try GlobalLocalTemporal with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "GlobalLocalTemporal": Claims(
        dict(channels=8),
        variants=(
            Variant(
                dict(dilations=(1, 2, 4), include_frames=False, activation="relu", norm=False),
                zero_grad=(),
            ),
            Variant(dict(dilations=(2,), kernel_size=5, reduction=3)),
        ),
        zero_grad={"phi.bias": "a constant added to all scores of a frame cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.05, 0.5)),
    )
}
