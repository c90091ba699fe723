"""What the laws try ScSE with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ScSE": Claims(
        dict(channels=16, reduction=4),
        variants=(
            Variant(dict(fusion="add", bias=False)),
            Variant(dict(fusion="mul")),
            Variant(dict(fusion="concat")),
            Variant(dict(gates="channel"), map_invariant=("pixels",)),
            Variant(dict(gates="spatial"), independent=("pixels",)),
        ),
    )
}
