"""What the laws try PyramidSplit with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "PyramidSplit": Claims(
        dict(in_channels=16, kernel_sizes=(3, 5), kernel_groups=(1, 4), reduction=2),
        variants=(
            Variant(dict(order="first-last")),
            Variant(
                dict(out_channels=24, kernel_sizes=(3, 1, 5), kernel_groups=(1, 2, 4), stride=2)
            ),
        ),
    )
}
