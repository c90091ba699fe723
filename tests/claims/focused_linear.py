"""What the laws try FocusedLinear with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "FocusedLinear": Claims(
        dict(channels=16, num_heads=4, num_positions=20),
        variants=(
            Variant(dict(reduction=2, power=2, kernel_size=3, num_heads=2)),
            Variant(dict(num_positions=None, learned_scale=False, bias=False)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
            Variant(dict(out_dropout=0.5), train_differs=True),
        ),
    )
}
