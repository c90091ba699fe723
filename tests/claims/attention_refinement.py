"""What the laws try AttentionRefinement with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AttentionRefinement": Claims(
        dict(in_channels=16),
        variants=(
            Variant(dict(out_channels=12)),
            Variant(dict(conv=False), equivariant=("pixels",), map_invariant=("pixels",)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    )
}
