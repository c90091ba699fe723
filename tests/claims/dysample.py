"""What the laws try DySample with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "DySample": Claims(
        dict(channels=8),
        variants=(
            Variant(dict(groups=2, style="pl", dynamic_scope=True)),
            Variant(dict(scale_factor=3, dynamic_scope=True)),
        ),
    )
}
