"""What the laws try MultiScaleDeformable with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

TRACED = {
    "fx_traces": "torch.fx fails on a keyword after any number of inputs, unless the module is "
    "within another"
}
ONE = "with fewer than two levels it passes the default of the mask as one more"

CLAIMS = {
    "MultiScaleDeformable": Claims(
        dict(embed_dim=16, num_levels=2),
        variants=(
            Variant(
                dict(num_heads=2, num_levels=1, num_points=3),
                skips={**TRACED, "older_onnx_exporter_gives_the_same": ONE},
            ),
            Variant(dict(num_levels=4)),
        ),
        skips=TRACED,
        rounding=Rounding(PLACE, bfloat16=(0.01, 0.25, 0.25), float16=(0.01, 0.02, 0.02)),
    )
}
