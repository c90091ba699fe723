"""What the laws try PointwiseSpatial with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "PointwiseSpatial": Claims(
        dict(channels=16, reduction=2, mask_size=(9, 5), stride=1),
        variants=(
            Variant(dict(reduction=1, stride=2, concat=False)),
            Variant(dict(mode="collect", mask_size=(31, 4))),
            Variant(dict(mode="distribute", hidden_dim=6, normalize=False, divisor=None)),
            Variant(dict(mode="collect", absolute=True, mask_size=(11, 7), divisor=0.5)),
            Variant(dict(mode="collect", absolute=True, normalize=False)),
            Variant(dict(mode="distribute", absolute=True, normalize=False)),
            Variant(dict(absolute=True)),
        ),
    )
}
