"""What the laws try PointwiseSpatial with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "PointwiseSpatial": Claims(
        dict(channels=16, reduction=2, mask_size=(9, 5), shrink=1),
        variants=(
            Variant(dict(reduction=1, shrink=2, concat=False)),
            Variant(dict(mode="collect", mask_size=(31, 4))),
            Variant(dict(mode="distribute", hidden=6, normalise=False, divisor=None)),
            Variant(dict(mode="collect", compact=True, mask_size=(11, 7), divisor=0.5)),
            Variant(dict(mode="collect", compact=True, normalise=False)),
            Variant(dict(mode="distribute", compact=True, normalise=False)),
            Variant(dict(compact=True)),
        ),
    )
}
