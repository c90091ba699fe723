"""What the laws try DynamicHead with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CLAIMS = {
    "DynamicHead": Claims(
        dict(in_channels=16, norm_groups=4),
        variants=(Variant(dict(out_channels=12, coarse_offsets="resized")),),
        skips={
            "exports_for_any_size": "a level has half the size of the one before, rounded up, "
            "and torch.export takes sizes that depend on one another only as fixed ones",
            "fx_traces": "torch.fx cannot count inputs of any number; within another module it can",
        },
        rounding=Rounding(PLACE, bfloat16=(0.1, 0.5, 2), float16=(0.02, 0.1, 0.5)),
    )
}
