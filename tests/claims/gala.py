"""What the laws try GALA with, and what they should find."""

from . import Claims, Variant

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
        ),
    )
}
