"""What the laws try RecurrentAttention with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "RecurrentAttention": Claims(
        dict(
            channels=3,
            num_classes=5,
            num_glimpses=3,
            patch_size=4,
            num_patches=2,
            glimpse_dim=12,
            location_dim=8,
        ),
        variants=(
            Variant(dict(num_patches=3, patch_scale=2.5, patch_size=2)),
            Variant(dict(num_glimpses=2, location_std=0.3, policy="linear")),
        ),
        zero_grad={
            "locate.*": "locations are sampled, not differentiated: the policy learns by REINFORCE",
            "baseline.*": "the output does not depend on it: it learns by the loss of an episode",
        },
        skips={
            "every_parameter_that_asks_for_a_gradient_gets_one": "the loss of an episode brings "
            "those of the policy and of the baseline, which do not touch the output",
            "output_may_be_written_to": "log-probabilities, as torch's own, are read by the "
            "backward pass; no layer of a network follows them",
            "half_precision_is_close": "rounding can move a glimpse by a pixel, to other values",
            "autocast_is_close": "rounding can move a glimpse by a pixel, to other values",
            "half_precision_holds_for_large_values": "rounding can move a glimpse by a pixel, "
            "to other values",
            "half_precision_holds_on_large_images": "rounding can move a glimpse by a pixel, "
            "to other values",
        },
    )
}
