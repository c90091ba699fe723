"""What the laws try EfficientLocal with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "EfficientLocal": Claims(
        dict(channels=32),
        variants=(
            Variant(dict(kernel_size=5, groups=2, norm_groups=4)),
            Variant(dict(kernel_size=1, groups=1, bias=True)),
            Variant(dict(shared=False, norm_groups=1, activation=True, residual=True)),
        ),
    )
}
