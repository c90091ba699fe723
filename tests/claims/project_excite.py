"""What the laws try ProjectExcite with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "ProjectExcite": Claims(
        dict(channels=16, reduction=4),
        variants=(
            Variant(dict(dims=2), equivariant=()),
            # A sequence has one axis, so that each position is a slice of its own.
            Variant(dict(dims=1), equivariant=("pixels",), independent=("pixels",)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.02)),
    )
}
