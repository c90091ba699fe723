"""What the laws try CBAM with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

CLAIMS = {
    "CBAM": Claims(
        dict(channels=16, reduction=4),
        variants=(
            Variant(dict(norm=False, planes="mean-max", bias=False), train_differs=False),
            Variant(dict(kernel_size=3, hidden_dim=3)),
            Variant(dict(dims=1, kernel_size=3)),
            Variant(dict(dims=3, kernel_size=3)),
            Variant(dict(residual=True, spatial_bias=True, norm=False), train_differs=False),
            Variant(dict(pools=("mean", "max", "l2", "logsumexp"))),
            Variant(dict(gates="spatial"), map_invariant=("channels",), equivariant=("channels",)),
            Variant(
                dict(gates="channel"),
                equivariant=("pixels",),
                map_invariant=("pixels",),
                train_differs=False,
            ),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.02, 0.02, 0.05)),
    )
}
