"""What the laws try SimplifiedChannel, SimplifiedChannelBlock with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SimplifiedChannel": Claims(dict(channels=16)),
    "SimplifiedChannelBlock": Claims(
        dict(channels=12),
        variants=(
            Variant(dict(expansion=3, hidden_expansion=4)),
            Variant(dict(dropout=0.5), train_differs=True),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    ),
}
