"""What the laws try DisentangledNonLocal with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

MEANS = "a constant in all queries or keys is part of the mean that is subtracted"
CANCELS = "a constant added to all scores of a query cancels in the softmax"

CLAIMS = {
    "DisentangledNonLocal": Claims(
        dict(channels=16, temperature=0.5),
        variants=(
            Variant(dict(project=True, norm=True, hidden_dim=6), train_differs=True),
            Variant(dict(unary=False, subsample=True), identity_at_init=True, equivariant=()),
            Variant(
                dict(whiten=("channels", "both"), gate=False),
                zero_grad={"key.bias": CANCELS, "score.bias": CANCELS},
            ),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        zero_grad={"query.bias": MEANS, "key.bias": MEANS, "score.bias": CANCELS},
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
