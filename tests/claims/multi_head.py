"""What the laws try MultiHead with, and what they should find."""

from . import SHARP, Claims, Rounding, Variant

CLAIMS = {
    "MultiHead": Claims(
        dict(embed_dim=16, num_heads=4),
        variants=(
            Variant(dict(kdim=12, vdim=20)),
            Variant(dict(head_dim=6, value_head_dim=3)),
            Variant(dict(bias=False)),
            Variant(dict(out_bias=False)),
            Variant(dict(add_bias_kv=True), zero_grad=()),
            Variant(dict(add_zero_attn=True), zero_grad=()),
            Variant(dict(dropout=0.5), train_differs=True),
            Variant(
                dict(causal=True),
                equivariant=(),
                skips=dict(masked_keys_get_no_weight="keys after a query get no weight either"),
            ),
        ),
        zero_grad={"key.bias": "a constant added to all scores of a query cancels in the softmax"},
        rounding=Rounding(SHARP, bfloat16=(0.01, 0.5, 2), float16=(0.01, 0.1, 1)),
    )
}
