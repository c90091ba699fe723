"""What the laws try ODConv with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ODConv": Claims(
        dict(in_channels=8),
        variants=(
            Variant(
                dict(
                    out_channels=12,
                    kernel_size=5,
                    stride=3,
                    padding="same",
                    groups=2,
                    bias=True,
                    reduction=1,
                    min_hidden_dim=5,
                )
            ),
            Variant(dict(groups=8, kernel_size=(3, 5), num_kernels=3, temperature=4.0)),
            Variant(dict(kernel_size=1, padding="valid", num_kernels=1)),
            Variant(dict(dims=1, dilation=2)),
            Variant(dict(dims=3)),
        ),
        starts_as_convolution=True,
    )
}
