"""What the laws try BilevelRouting with, and what they should find."""

from . import Claims, Rounding, Variant

CHOICE = "rounding changes which regions are chosen, and the chosen ones differ by much"

CLAIMS = {
    "BilevelRouting": Claims(
        dict(channels=16, num_heads=2, regions=3, topk=2),
        variants=(
            Variant(
                dict(padding="projections", topk=3, kernel_size=3),
                skips=dict(half_precision_is_close=CHOICE, autocast_is_close=CHOICE),
            ),
            Variant(dict(qk_dim=8, scale=0.5, kernel_size=None, out_proj=False)),
            Variant(dict(soft_routing=True, routing="projected")),
            Variant(dict(soft_routing=True, routing="differentiable")),
        ),
        rounding=Rounding(CHOICE, bfloat16=(0.5, 1, 2), float16=(0.1, 0.5, 1)),
    )
}
