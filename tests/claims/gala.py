"""What the laws try GALA with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GALA": Claims(
        dict(channels=16, reduction=2),
        variants=(
            Variant(dict(kernels=(), squash="tanh", rectify=False), equivariant=("pixels",)),
            Variant(dict(kernels=(3, 5), interaction="additive")),
            Variant(dict(interaction="multiplicative")),
        ),
    )
}
