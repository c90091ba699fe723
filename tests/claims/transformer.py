"""What the laws try Transformer, its encoder and decoder with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Transformer": Claims(
        dict(width=16, heads=4, encoder_layers=1, decoder_layers=1, hidden=24),
        variants=(
            Variant(dict(encoder_layers=2, decoder_layers=2, norm="before", activation="gelu")),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=False), equivariant=("pixels",)),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
    ),
    "TransformerEncoder": Claims(
        dict(width=16, heads=4, layers=1, hidden=24),
        variants=(
            Variant(dict(layers=2, norm="before", activation="gelu")),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=True), equivariant=()),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
    ),
    "TransformerDecoder": Claims(
        dict(width=16, heads=4, layers=1, hidden=24),
        variants=(
            Variant(dict(layers=2, norm="before", activation="gelu")),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=False), equivariant=("pixels",)),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
    ),
}
