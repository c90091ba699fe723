"""What the laws try GSoP with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GSoP": Claims(
        dict(channels=16, hidden=6),
        variants=(
            Variant(dict(stride=1), equivariant=("pixels",), map_invariant=("pixels",)),
            Variant(dict(form="position")),
            Variant(dict(form="position", size=(3, 5), divisor="channels")),
        ),
    )
}
