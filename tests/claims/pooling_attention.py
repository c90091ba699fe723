"""What the laws try PoolingAttention with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CANCELS = "a constant added to all scores of a query cancels in the softmax"

CLAIMS = {
    "PoolingAttention": Claims(
        dict(channels=16, num_heads=4, size=8),
        variants=(
            Variant(dict(out_channels=12, num_heads=2, query_stride=2, key_stride=3, bias=False)),
            Variant(dict(pool="max", size=None, residual=False), zero_grad={"key.bias": CANCELS}),
            Variant(
                dict(pool="avg", query_kernel=1, key_kernel=5, pool_first=True),
                zero_grad={"key.bias": CANCELS},
            ),
            Variant(dict(grid_size=(5, 4), class_token=True, norm_eps=1e-2, query_stride=2)),
            Variant(dict(dims=1, size=9)),
            Variant(dict(dims=3, size=(4, 6, 5), key_stride=(1, 2, 2), query_kernel=(1, 3, 3))),
        ),
        zero_grad={
            "norms.key.bias": CANCELS,
        },
        rounding=Rounding(SHARP, bfloat16=(0.03, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
