"""What the laws try MobileViT with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "MobileViT": Claims(
        dict(channels=8, num_heads=2, head_dim=24),
        variants=(
            Variant(
                dict(norm=False, qkv_bias=False, head_dim=3, num_layers=1),
                train_differs=False,
                zero_grad=(),
            ),
            Variant(
                dict(
                    embed_dim=6,
                    hidden_dim=10,
                    num_heads=3,
                    head_dim=None,
                    patch_size=(3, 2),
                    fuse=False,
                )
            ),
            Variant(dict(kernel_size=5, dilation=2, num_layers=1)),
            Variant(dict(dropout=0.5, attention_dropout=0.25, hidden_dropout=0.1)),
        ),
        zero_grad={
            "layers.*.attention.key.bias": (
                "a constant added to a query's scores cancels in the softmax"
            )
        },
    )
}
