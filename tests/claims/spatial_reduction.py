"""What the laws try SpatialReduction with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "SpatialReduction": Claims(
        dict(channels=16, num_heads=4),
        variants=(
            Variant(dict(reduction=3, scale=0.3)),
            Variant(dict(reduction=1, bias=False), equivariant=("pixels",), zero_grad=()),
            Variant(dict(pool_size=7, num_heads=2)),
            Variant(dict(dims=1)),
            Variant(
                dict(dims=3),
                zero_grad=("key.bias",),
                skips=dict(
                    exports_for_any_size="an exporter fixes sizes of one, as three frames in twos"
                ),
            ),
            Variant(dict(dropout=0.5, out_dropout=0.5), train_differs=True),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
