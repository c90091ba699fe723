"""What the laws try GatherExcite with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "GatherExcite": Claims(
        dict(channels=16),
        variants=(
            Variant(dict(extent=2), equivariant=("channels",), map_invariant=()),
            Variant(
                dict(extent=4, form="conv"), equivariant=(), map_invariant=(), train_differs=True
            ),
            Variant(
                dict(form="conv", input_size=(11, 7)),
                equivariant=(),
                map_invariant=(),
                train_differs=True,
            ),
            Variant(
                dict(extent=8, form="mlp", reduction=4),
                equivariant=(),
                map_invariant=(),
                independent=(),
                train_differs=True,
            ),
            Variant(
                dict(form="mlp", input_size=(11, 7), reduction=4),
                equivariant=(),
                map_invariant=(),
                independent=(),
                train_differs=True,
            ),
        ),
    )
}
