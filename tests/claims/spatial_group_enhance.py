"""What the laws try SpatialGroupEnhance with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SpatialGroupEnhance": Claims(
        dict(channels=16, groups=4),
        variants=(Variant(dict(unbiased=False)), Variant(dict(eps=0.1))),
    )
}
