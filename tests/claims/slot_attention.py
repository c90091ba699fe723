"""What the laws try SlotAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "SlotAttention": Claims(
        dict(embed_dim=16),
        variants=(
            Variant(dict(kdim=12, hidden_dim=10, bias=True)),
            Variant(dict(iterations=2, eps=0.1, norm_eps=1e-5)),
        ),
        zero_grad={
            "query.bias": "a constant added to all scores of a token cancels among the slots",
            "slot_norm.bias": "a constant in all queries cancels among the slots",
        },
        rounding=Rounding(SHARP, bfloat16=(0.05, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
