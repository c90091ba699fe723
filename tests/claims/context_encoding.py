"""What the laws try ContextEncoding, CodewordEncoding with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ContextEncoding": Claims(
        dict(channels=16, num_codewords=6),
        variants=(Variant(dict(num_classes=5)), Variant(dict(pooling="sum", residual=False))),
    ),
    "CodewordEncoding": Claims(
        dict(channels=12, num_codewords=5), variants=(Variant(dict(num_codewords=32)),)
    ),
}
