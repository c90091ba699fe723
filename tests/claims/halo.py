"""What the laws try Halo with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Halo": Claims(
        dict(channels=16, num_heads=2, block_size=4, halo_size=1),
        variants=(
            Variant(dict(block_size=2, halo_size=3, head_dim=5, bias=True, scale_positions=True)),
            Variant(
                dict(num_heads=3, head_dim=4, value_head_dim=6, mask_padding=True, out_proj=True)
            ),
            Variant(dict(stride=2, value_head_dim=12)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
