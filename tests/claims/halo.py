"""What the laws try Halo with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Halo": Claims(
        dict(channels=16, heads=2, block_size=4, halo_size=1),
        variants=(
            Variant(
                dict(block_size=2, halo_size=3, key_channels=5, bias=True, scale_positions=True)
            ),
            Variant(dict(heads=3, key_channels=4, value_channels=6, mask=True, project=True)),
            Variant(dict(stride=2, value_channels=12)),
        ),
    )
}
