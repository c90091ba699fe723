"""What the laws try AttentionGate with, and what they should find."""

from . import STEEP, Claims, Rounding, Variant

SHIFT = {"psi.bias": "a bias that all positions share does not change their normalized scores"}

CLAIMS = {
    "AttentionGate": Claims(
        dict(channels=16, guide_channels=12),
        variants=(
            Variant(
                dict(hidden_dim=5, stride=(2, 3), activation="softplus", out="conv"),
                train_differs=False,
            ),
            Variant(dict(stride=1, norm=True, out="none"), independent=("pixels",)),
            Variant(dict(normalization="softmax", strided_guide=True), zero_grad=SHIFT),
            Variant(dict(normalization="sum", activation="none", norm=True)),
            Variant(dict(normalization="shifted_sum"), zero_grad=SHIFT),
            Variant(dict(normalization="range"), zero_grad=SHIFT),
            Variant(dict(dims=1)),
            Variant(dict(dims=3, strided_guide=True, stride=(1, 2, 2)), independent=("frames",)),
        ),
        rounding=Rounding(STEEP, bfloat16=(0.01, 0.01, 0.1)),
    )
}
