"""What the laws try MultiScaleDeformable with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CLAIMS = {
    "MultiScaleDeformable": Claims(
        dict(embed_dim=16, num_levels=2),
        variants=(
            Variant(dict(num_heads=2, num_levels=1, num_points=3)),
            Variant(dict(num_levels=4)),
        ),
        skips={
            "fx_traces": "torch.fx fails on a keyword after any number of inputs, unless the "
            "module is within another"
        },
        rounding=Rounding(PLACE, bfloat16=(0.05, 0.2, 1), float16=(0.01, 0.05, 0.5)),
    )
}
