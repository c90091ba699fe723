"""What the laws try UFO with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "UFO": Claims(
        dict(embed_dim=16, num_heads=4),
        variants=(Variant(dict(head_dim=6, value_head_dim=3)), Variant(dict(bias=False))),
    )
}
