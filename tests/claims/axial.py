"""What the laws try the axial attentions with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Axial": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(num_heads=3, head_dim=5, compose="chain")),
            Variant(dict(dims=1), equivariant=("pixels",)),
            Variant(dict(dims=3, compose="chain"), equivariant=("frames",)),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.05, 1, 1), float16=(0.01, 0.2, 1)),
    ),
    "PositionSensitiveAxial": Claims(
        dict(channels=12, num_heads=2, axis_size=11),
        variants=(
            Variant(dict(axis="w", axis_size=7, out_channels=16)),
            Variant(dict(num_heads=3, stride=2)),
        ),
        zero_grad={"norm_scores.bias": "a constant added to all scores of a query cancels"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.5), float16=(0.01, 0.01, 0.1)),
    ),
    "AxialTransformer": Claims(
        dict(channels=8, depth=1, num_heads=2),
        variants=(
            Variant(dict(depth=2, num_heads=3, head_dim=4, input_size=(11, 7))),
            Variant(dict(reversible=False)),
        ),
    ),
}
