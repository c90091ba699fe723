"""What the laws try MultiScaleLinear with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "MultiScaleLinear": Claims(
        dict(channels=16, head_dim=4),
        variants=(
            Variant(dict(out_channels=12, head_dim=8, num_heads=1, bias=True, norm=True)),
            Variant(dict(kernel_sizes=(3, 5), out_bias=True, out_norm=False), train_differs=False),
            Variant(dict(kernel_sizes=(), eps=0.1), equivariant=("pixels",)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
    )
}
