"""What the laws try MCA with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "MCA": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=5), equivariant=()),
            Variant(dict(channel_gate=False), map_invariant=("channels",)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.03)),
    )
}
