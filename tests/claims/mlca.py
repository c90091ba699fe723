"""What the laws try MLCA with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "MLCA": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=5, local_size=3, local_weight=0.3)),
            Variant(dict(learn_weight=True)),
        ),
    )
}
