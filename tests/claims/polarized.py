"""What the laws try Polarized with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Polarized": Claims(
        dict(channels=32),
        variants=(
            Variant(dict(arrangement="sequential")),
            Variant(dict(softmax="channels", transform="norm", bias=True)),
            Variant(dict(softmax="positions", transform="bottleneck", reduction=4)),
            Variant(
                dict(arrangement="sequential", softmax="product", transform="linear", bias=True)
            ),
        ),
        zero_grad={"channel_query.bias": "a constant added to all scores cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.1, 0.5), float16=(0.01, 0.02, 0.02)),
    )
}
