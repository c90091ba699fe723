"""What the laws try VisionTransformer with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "VisionTransformer": Claims(
        dict(
            embed_dim=8,
            depth=2,
            num_heads=2,
            image_size=(8, 12),
            patch_size=2,
            num_classes=5,
            mlp_dim=12,
        ),
        variants=(
            Variant(
                dict(
                    global_pool="mean",
                    class_token=False,
                    positions="sincos",
                    patch_norm=True,
                    qkv_bias=False,
                    out_bias=False,
                    eps=1e-05,
                )
            ),
            Variant(
                dict(
                    global_pool="all", last_norm="pooled", qkv_bias=False, head_dim=3, in_channels=5
                )
            ),
            Variant(
                dict(
                    global_pool="mean",
                    last_norm="pooled",
                    layer_scale=0.1,
                    num_registers=2,
                    class_position=False,
                )
            ),
            Variant(dict(global_pool=None, num_classes=None, last_norm=None, mlp_bias=False)),
            Variant(
                dict(dropout=0.5, embed_dropout=0.25, attention_dropout=0.1, patch_size=(2, 3)),
                train_differs=True,
            ),
        ),
        zero_grad={
            "blocks.*.attention.key.bias": (
                "a constant added to a query's scores cancels in the softmax"
            )
        },
    )
}
