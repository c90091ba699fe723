"""What the laws try ACmix with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "ACmix": Claims(
        dict(in_channels=16, window_size=3),
        variants=(
            Variant(dict(out_channels=12, num_heads=2, kernel_size=5, stride=2, window_size=5)),
        ),
        zero_grad={
            "position.bias": "a constant added to all scores of a query cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.05, 0.2), float16=(0.01, 0.01, 0.1)),
    )
}
