"""What the laws try SelectiveScan with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "SelectiveScan": Claims(
        dict(channels=8, state_dim=1, expansion=1.0),
        variants=(
            Variant(dict(state_dim=3, expansion=1.5, rank=2, kernel_size=5, bias=True)),
            Variant(dict(gate=False, conv_bias=False, state_dim=2)),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.02, 0.02, 0.02)),
    )
}
