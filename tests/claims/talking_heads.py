"""What the laws try TalkingHeads with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "TalkingHeads": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(bias=True, scale=0.3)),
            Variant(dict(mix_bias=False, num_heads=2), zero_grad=()),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={
            "key.bias": "a constant added to all scores of a query, in all heads, cancels",
            "mix_scores.bias": "a constant added to all scores of a query cancels in the softmax",
        },
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
