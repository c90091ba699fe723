"""What the laws try NonLocal with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "NonLocal": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(form="gaussian"), map_invariant=("channels",), zero_grad=()),
            Variant(dict(form="dot", subsample=None), equivariant=("pixels",), zero_grad=()),
            Variant(dict(form="concat", hidden_dim=6, subsample="projections"), zero_grad=()),
            Variant(dict(subsample=None), equivariant=("pixels",)),
            Variant(dict(scaled=False, norm=False), train_differs=False),
            Variant(dict(dims=1)),
            Variant(dict(dims=3), equivariant=("frames",)),
        ),
        zero_grad={"phi.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.2, 0.5), float16=(0.01, 0.05, 0.2)),
    )
}
