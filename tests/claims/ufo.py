"""What the laws try UFO with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "UFO": Claims(
        dict(width=16, heads=4),
        variants=(Variant(dict(head_width=6, value_head_width=3)), Variant(dict(bias=False))),
    )
}
