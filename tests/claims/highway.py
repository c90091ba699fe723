"""What the laws try Highway with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Highway": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=None)),
            Variant(dict(gate_kernel_size=1, groups=4)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
            Variant(dict(activation="tanh", gate_bias=-3.0)),
            Variant(dict(activation="sigmoid", bias=False)),
        ),
    )
}
