"""What the laws try SqueezeExcitation with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SqueezeExcitation": Claims(
        dict(channels=16, reduction=4),
        variants=(Variant(dict(bias=True)), Variant(dict(hidden_dim=3))),
    )
}
