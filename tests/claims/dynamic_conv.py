"""What the laws try DynamicConv with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "DynamicConv": Claims(
        dict(in_channels=8),
        variants=(
            Variant(
                dict(out_channels=12, kernel_size=5, stride=3, padding="same", groups=2, bias=False)
            ),
            Variant(dict(num_kernels=3, kernel_size=1, padding="valid", temperature=4.0)),
            Variant(dict(dims=1, reduction=2, dilation=2)),
            Variant(dict(dims=3, hidden_dim=5, score_bias=False)),
        ),
        starts_as_convolution=True,
    )
}
