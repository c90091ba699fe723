"""What the laws try DynamicHead with, and what they should find."""

from . import PLACE, Claims, Rounding, Variant

CLAIMS = {
    "DynamicHead": Claims(
        dict(in_channels=16, norm_groups=4),
        variants=(Variant(dict(out_channels=12, coarse_offsets="resized")),),
        skips={
            "fx_traces": "torch.fx cannot count inputs of any number; within another module it can",
        },
        rounding=Rounding(PLACE, bfloat16=(0.03, 0.2, 0.2), float16=(0.01, 0.02, 0.03)),
    )
}
