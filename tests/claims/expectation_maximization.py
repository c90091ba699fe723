"""What the laws try ExpectationMaximization with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "ExpectationMaximization": Claims(
        dict(channels=16, num_bases=6),
        variants=(
            Variant(dict(num_steps=1, return_bases=True)),
            Variant(dict(momentum=0.5)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, return_bases=True)),
            Variant(dict(momentum=1.0)),
        ),
        zero_grad={"before.*": "no gradient passes through the EM steps after it"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.02, 0.1)),
    )
}
