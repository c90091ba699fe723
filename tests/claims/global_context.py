"""What the laws try GlobalContext with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GlobalContext": Claims(
        dict(channels=16, reduction=4),
        variants=(
            Variant(
                dict(pooling="mean", fusion="mul"),
                map_invariant=("pixels", "channels"),
                identity_at_init=False,
                zero_grad=(),
            ),
            Variant(dict(hidden_dim=7, fusion="both", eps=0.01), identity_at_init=False),
        ),
        zero_grad={"score.bias": "a constant added to all scores cancels in the softmax"},
    )
}
