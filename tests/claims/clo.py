"""What the laws try Clo with, and what they should find."""

from . import Claims, Rounding, Variant

CLAIMS = {
    "Clo": Claims(
        dict(channels=16, window_size=2),
        variants=(
            Variant(dict(group_heads=(1, 2, 1), kernel_sizes=(5, 3), window_size=3)),
            Variant(dict(group_heads=(2, 0), bias=False)),
            Variant(
                dict(group_heads=(4,), kernel_sizes=(), window_size=1), equivariant=("pixels",)
            ),
        ),
        rounding=Rounding(
            "tanh and softmax of scores in the hundreds are steps, and rounding may change a side",
            bfloat16=(0.02, 0.08, 0.8),
            float16=(0.01, 0.02, 0.05),
        ),
    )
}
