"""What the laws try self-calibrated convolutions with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "SelfCalibratedConv": Claims(
        dict(in_channels=16, pool_size=2),
        variants=(
            Variant(dict(interpolation="bilinear", pool_size=3)),
            Variant(dict(split=True, stride=2, out_channels=24, groups=2)),
            Variant(dict(kernel_size=5, dilation=2)),
            Variant(dict(norm=False), train_differs=False),
        ),
    ),
    "SelfCalibratedBottleneck": Claims(
        dict(in_channels=16, hidden_dim=4, pool_size=2),
        variants=(
            Variant(dict(out_channels=24, stride=2, groups=2)),
            Variant(dict(average=True, dilation=2, interpolation="bilinear")),
        ),
    ),
}
