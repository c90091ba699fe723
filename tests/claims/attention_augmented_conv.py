"""What the laws try AttentionAugmentedConv with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "AttentionAugmentedConv": Claims(
        dict(in_channels=16, num_heads=4, value_channels=8),
        variants=(
            Variant(dict(input_size=(11, 7), num_heads=2, key_channels=10, out_channels=24)),
            Variant(dict(kernel_size=1, bias=False, value_channels=None), equivariant=("pixels",)),
            Variant(dict(value_channels=16), equivariant=("pixels",)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.05, 0.2)),
    )
}
