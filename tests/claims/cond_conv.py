"""What the laws try CondConv, CondConvBlock with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "CondConv": Claims(
        dict(in_channels=8, num_experts=3),
        variants=(
            Variant(
                dict(out_channels=12, kernel_size=5, stride=3, padding="same", groups=2, bias=True)
            ),
            Variant(dict(kernel_size=1, padding="valid", bias=True, mix_bias=False)),
            Variant(dict(dilation=2, dropout=0.5, route_bias=False), train_differs=True),
        ),
        starts_as_convolution=True,
    ),
    "CondConvBlock": Claims(
        dict(in_channels=6, num_experts=3, expansion=2),
        variants=(Variant(dict(out_channels=8, kernel_size=5, stride=2)),),
        rounding=Rounding(CHAIN, bfloat16=(0.01, 0.02, 0.02)),
    ),
}
