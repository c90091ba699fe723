"""What the laws try ContextEncoding, CodewordEncoding with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ContextEncoding": Claims(
        dict(channels=16, codewords=6),
        variants=(Variant(dict(classes=5)), Variant(dict(pool="sum", residual=False))),
    ),
    "CodewordEncoding": Claims(
        dict(channels=12, codewords=5), variants=(Variant(dict(codewords=32)),)
    ),
}
