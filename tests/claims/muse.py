"""What the laws try MUSE, MUSELayer with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

EXTRA = "the law compares with a map of zeros, with which the convolutions read zeros only"
CLAIMS = {
    "MUSE": Claims(
        dict(embed_dim=16, num_heads=4, kernel_sizes=(3, 5)),
        variants=(
            Variant(dict(filters="static", kernel_sizes=(1, 3, 5))),
            Variant(dict(padding="causal", kernel_sizes=(2, 3))),
            Variant(dict(filters="static", padding="causal")),
            Variant(dict(head_dim=6, value_head_dim=3)),
            Variant(
                dict(mask_values=True),
                skips={"masks_hold_on_both_paths": EXTRA},
            ),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 1), float16=(0.01, 0.1, 1)),
    ),
    "MUSELayer": Claims(
        dict(embed_dim=12, num_heads=3, hidden_dim=20),
        variants=(
            Variant(dict(norm_first=True, padding="causal", kernel_sizes=(2, 4))),
            Variant(
                dict(filters="static", mask_values=True),
                skips={"masks_hold_on_both_paths": EXTRA},
            ),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={
            "branches.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.2, 1), float16=(0.01, 0.05, 0.2)),
    ),
}
