"""What the laws try ExternalAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CANCELS = "a constant added to all scores of a slot cancels in the softmax over the tokens"
CLAIMS = {
    "ExternalAttention": Claims(
        dict(embed_dim=16, num_slots=12),
        variants=(
            Variant(dict(form="block"), train_differs=True, zero_grad={"before.bias": CANCELS}),
            Variant(
                dict(form="heads", num_heads=8),
                zero_grad={"before.bias": CANCELS, "keys.bias": CANCELS},
            ),
            Variant(dict(eps=0.1)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.5), float16=(0.01, 0.01, 0.05)),
    )
}
