"""What the laws try TemporalAdaptive with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "TemporalAdaptive": Claims(
        dict(channels=16, num_frames=5),
        variants=(
            Variant(
                dict(folded=True, num_frames=3),
                equivariant=("pixels",),
                map_invariant=("pixels",),
                skips=dict(images_are_independent="the images are frames of one clip"),
            ),
            Variant(dict(kernel_size=5, reduction=2, expansion=3, kernel_norm=False)),
        ),
    )
}
