"""What the laws try ObjectContextual with, and what they should find."""

from . import Claims, Variant

# The classes of a random image hardly differ: the ReLU passes a channel of all of them or none.
ALIKE = "where the ReLU passes a channel of every class, it adds the same score to all classes"

CLAIMS = {
    "ObjectContextual": Claims(
        dict(channels=16),
        variants=(
            Variant(
                dict(key_channels=5, out_channels=12, bias=False, dropout=0.5),
                zero_grad={"key.*.1.bias": ALIKE},
            ),
            Variant(dict(scale=2, region_scale=2.0), equivariant=()),
        ),
        zero_grad={"key.1.*.bias": ALIKE},
    )
}
