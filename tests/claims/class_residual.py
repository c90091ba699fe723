"""What the laws try ClassResidual with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ClassResidual": Claims(
        dict(channels=16, num_classes=5, num_heads=2),
        variants=(
            Variant(dict(num_heads=1)),
            Variant(dict(num_heads=4, residual_weight=0.3)),
            Variant(dict(num_heads=1, temperatures=("max",), normalize=False)),
            Variant(dict(temperatures=(0.5, 3.0))),
        ),
    )
}
