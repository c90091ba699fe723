"""What the laws try CPCA with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "CPCA": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(reduction=5, kernel_sizes=(3, 9), order="sum-sigmoid")),
            Variant(dict(shared=False)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_sizes=(3, 7))),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.02, 0.01, 0.01)),
    )
}
