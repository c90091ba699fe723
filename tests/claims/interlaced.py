"""What the laws try Interlaced with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

ALIKE = (
    "small inputs of a norm keep the sign of each channel, so that ReLU passes or stops all keys "
    "alike, and what all keys have in common cancels in the softmax"
)

CLAIMS = {
    "Interlaced": Claims(
        dict(channels=16, key_dim=24, block_size=4),
        variants=(
            Variant(
                dict(block_size=(3, 2), out_channels=12),
                zero_grad={"short.key.0.1.bias": ALIKE, "short.key.1.1.bias": ALIKE},
            ),
            Variant(dict(key_dim=20, value_dim=6)),
        ),
        zero_grad={"short.key.1.1.bias": ALIKE},
        rounding=Rounding(SHARP, bfloat16=(0.03, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
