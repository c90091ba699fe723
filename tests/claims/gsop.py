"""What the laws try GSoP with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "GSoP": Claims(
        dict(channels=16, hidden_dim=6),
        variants=(
            Variant(dict(stride=1), equivariant=("pixels",), map_invariant=("pixels",)),
            Variant(dict(form="position")),
            Variant(dict(form="position", grid_size=(3, 5), divisor="channels")),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.05)),
    )
}
