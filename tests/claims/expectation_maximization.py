"""What the laws try ExpectationMaximization with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ExpectationMaximization": Claims(
        dict(channels=16, bases=6),
        variants=(
            Variant(dict(steps=1, give_bases=True)),
            Variant(dict(momentum=0.5)),
            Variant(dict(momentum=1.0)),
        ),
        zero_grad={"before.*": "the EM steps behind it are taken without gradients"},
    )
}
