"""What the laws try GALA with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "GALA": Claims(
        dict(channels=16, reduction=2),
        variants=(
            Variant(
                dict(kernel_sizes=(), gate_activation="tanh", activation=None),
                equivariant=("pixels",),
            ),
            Variant(dict(kernel_sizes=(3, 5), interaction="additive")),
            Variant(dict(interaction="multiplicative")),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, kernel_sizes=(3,))),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.1, 1), float16=(0.01, 0.01, 0.05)),
    )
}
