"""What the laws try AttentionAugmentedConv with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "AttentionAugmentedConv": Claims(
        dict(in_channels=16, heads=4, value_width=8),
        variants=(
            Variant(dict(size=(11, 7), heads=2, key_width=10, out_channels=24)),
            Variant(dict(kernel_size=1, bias=False, value_width=None), equivariant=("pixels",)),
            Variant(dict(value_width=16), equivariant=("pixels",)),
        ),
    )
}
