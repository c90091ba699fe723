"""What the laws try DoubleAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "DoubleAttention": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(hidden_dim=6, num_descriptors=5, residual=False)),
            Variant(dict(reduction=2, expand=False, residual=False)),
            Variant(
                dict(num_frames=2),
                skips=dict(
                    images_are_independent="an image is a frame, which attends to its whole video"
                ),
            ),
        ),
        zero_grad={
            "gather.bias": "a constant added to a descriptor's scores cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.05, 0.5), float16=(0.01, 0.01, 0.05)),
    )
}
