"""What the laws try ContextAnchor with, and what they should find."""

from . import CHAIN, STEEP, Claims, Rounding, Variant

CLAIMS = {
    "ContextAnchor": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=(7, 9), norm=True, activation=True), train_differs=True),
            Variant(dict(activation=True)),
            Variant(dict(dims=1)),
            # The average at each of the three frames that are tried sees all of them.
            Variant(dict(dims=3, kernel_size=5), map_invariant=("frames",)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.08)),
    ),
    "ContextAnchorBlock": Claims(
        dict(in_channels=8),
        variants=(
            Variant(dict(out_channels=6, hidden_dim=4, kernel_sizes=(3, 5), kernel_size=7)),
            Variant(dict(norm=False, activation=False, residual=False), train_differs=False),
            Variant(dict(dims=1)),
            # As above.
            Variant(dict(dims=3, kernel_sizes=(3, 5), kernel_size=5), map_invariant=("frames",)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.01, 0.02, 0.02)),
    ),
}
