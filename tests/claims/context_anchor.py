"""What the laws try ContextAnchor with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

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
    )
}
