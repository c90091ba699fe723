"""What the laws try ContextualTransformer with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "ContextualTransformer": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(kernel_size=5, hidden_dim=6, groups=2, group_width=4)),
            Variant(dict(groups=8, group_width=4, projection_groups=2)),
        ),
    )
}
