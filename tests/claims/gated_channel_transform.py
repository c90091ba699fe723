"""What the laws try GatedChannelTransform with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GatedChannelTransform": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(p=1)),
            Variant(dict(p=1, after_relu=True)),
            Variant(dict(eps=0.05)),
        ),
    )
}
