"""What the laws try WeightedPermute with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "WeightedPermute": Claims(
        dict(channels=12, height=4, width=3),
        variants=(
            Variant(dict(channels=16, width=None, bias=True)),
            Variant(dict(reduction=2, gate_dropout=0.5), train_differs=True),
            Variant(dict(dropout=0.5), train_differs=True),
        ),
    )
}
