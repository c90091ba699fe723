"""What the laws try ClassResidual with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ClassResidual": Claims(
        dict(channels=16, classes=5, heads=2),
        variants=(
            Variant(dict(heads=1)),
            Variant(dict(heads=4, residual=0.3)),
            Variant(dict(heads=1, temperatures=("max",), normalize=False)),
            Variant(dict(temperatures=(0.5, 3.0))),
        ),
    )
}
