"""What the laws try DynamicReLU with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "DynamicReLU": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(hidden_dim=5, intercepts=None, slope_range=1.5)),
            Variant(dict(reduction=2, slopes=(0.5,), intercepts=(0.25,))),
            Variant(
                dict(activation="sigmoid", shared=True, slopes=(1, 0, 0), intercepts=(0, 0, 0)),
            ),
            Variant(
                dict(spatial=True),
                map_invariant=(),
                train_differs=True,
                zero_grad={
                    "look.bias": "the softmax does not see what is added to every score",
                    "norm.bias": "the softmax does not see what is added to every score",
                },
            ),
        ),
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.05, 0.01)),
    )
}
