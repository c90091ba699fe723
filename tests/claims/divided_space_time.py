"""What the laws try DividedSpaceTime with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "DividedSpaceTime": Claims(
        dict(channels=8, heads=2, hidden=12),
        variants=(
            Variant(dict(frames=2, qkv_bias=False), equivariant=()),
            Variant(dict(time_layer=False, eps=0.001)),
        ),
    )
}
