"""What the laws try SCSA with, and what they should find."""

from . import CHAIN, Claims, Rounding, Variant

CLAIMS = {
    "SCSA": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(window_size=3, kernel_sizes=(3, 7), qkv_bias=True)),
            Variant(dict(window_size=None, num_heads=2)),
            Variant(
                dict(window_size=2, pool="max", gate="softmax"),
                zero_grad={
                    "norm_h.bias": "softmax does not see what is added to a whole channel",
                    "norm_w.bias": "softmax does not see what is added to a whole channel",
                },
            ),
        ),
        rounding=Rounding(CHAIN, bfloat16=(0.01, 0.02, 0.01)),
    )
}
