"""What the laws try Transformer, its encoder and decoder with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "Transformer": Claims(
        dict(embed_dim=16, num_heads=4, num_encoder_layers=1, num_decoder_layers=1, hidden_dim=24),
        variants=(
            Variant(
                dict(num_encoder_layers=2, num_decoder_layers=2, norm_first=True, activation="gelu")
            ),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=False), equivariant=("pixels",)),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.05, 0.1), float16=(0.01, 0.01, 0.1)),
    ),
    "TransformerEncoder": Claims(
        dict(embed_dim=16, num_heads=4, num_layers=1, hidden_dim=24),
        variants=(
            Variant(dict(num_layers=2, norm_first=True, activation="gelu")),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=True), equivariant=()),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.2, 0.5), float16=(0.01, 0.02, 0.1)),
    ),
    "TransformerDecoder": Claims(
        dict(embed_dim=16, num_heads=4, num_layers=1, hidden_dim=24),
        variants=(
            Variant(dict(num_layers=2, norm_first=True, activation="gelu")),
            Variant(dict(final_norm=False, dropout=0.0), train_differs=False),
            Variant(dict(bias=False, eps=0.01)),
            Variant(dict(causal=False), equivariant=("pixels",)),
        ),
        zero_grad={
            "*.key.bias": "a constant added to all scores of a query cancels in the softmax"
        },
        rounding=Rounding(SHARP, bfloat16=(0.02, 0.5, 1), float16=(0.01, 0.05, 0.5)),
    ),
}
