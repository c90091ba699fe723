"""What the laws try MUSE, MUSELayer with, and what they should find."""

from . import Claims, Variant

EXTRA = "a map of zeros, which the law compares with, closes all keys to the convolutions"
CLAIMS = {
    "MUSE": Claims(
        dict(width=16, heads=4, kernels=(3, 5)),
        variants=(
            Variant(dict(filters="static", kernels=(1, 3, 5))),
            Variant(dict(padding="causal", kernels=(2, 3))),
            Variant(dict(filters="static", padding="causal")),
            Variant(dict(head_width=6, value_head_width=3)),
            Variant(
                dict(mask_values=True),
                skips={"masks_hold_on_both_paths": EXTRA},
            ),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
    ),
    "MUSELayer": Claims(
        dict(width=12, heads=3, hidden=20),
        variants=(
            Variant(dict(norm_first=True, padding="causal", kernels=(2, 4))),
            Variant(
                dict(filters="static", mask_values=True),
                skips={"masks_hold_on_both_paths": EXTRA},
            ),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
        zero_grad={
            "branches.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
    ),
}
