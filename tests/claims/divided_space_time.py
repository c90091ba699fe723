"""What the laws try DividedSpaceTime with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "DividedSpaceTime": Claims(
        dict(channels=8, num_heads=2, hidden_dim=12),
        variants=(
            Variant(dict(num_frames=2, qkv_bias=False), equivariant=()),
            Variant(dict(temporal_fc=False, eps=0.001)),
        ),
    )
}
