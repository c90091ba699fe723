"""What the laws try ConvolutionAttentionFusion with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ConvolutionAttentionFusion": Claims(
        dict(channels=16, num_heads=2),
        variants=(
            Variant(dict(num_heads=4, bias=True)),
            Variant(dict(reading="positions", residual=True)),
        ),
    )
}
