"""What the laws try RecurrentAttention with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "RecurrentAttention": Claims(
        dict(channels=3, classes=5, glimpses=3, size=4, patches=2, what=12, where=8),
        variants=(
            Variant(dict(patches=3, scale=2.5, size=2)),
            Variant(dict(glimpses=2, std=0.3, policy="linear")),
        ),
        zero_grad={
            "locate.*": "places are chosen, not differentiated: they learn by REINFORCE",
            "baseline.*": "the scores do not read it: it learns by the loss of an episode",
        },
        skips={
            "half_precision_is_close": "rounding can move a glimpse by a pixel, to other values",
            "autocast_is_close": "rounding can move a glimpse by a pixel, to other values",
        },
    )
}
