"""What the laws try Hamburger with, and what they should find."""

from . import Claims, Variant

CLAIMS = {
    "Hamburger": Claims(
        dict(channels=16, num_bases=4),
        variants=(
            Variant(dict(hidden_dim=12, groups=3, gradient="all", hidden_bias=False)),
            Variant(dict(form="cheese", reduction=2, train_steps=3, eval_steps=2)),
            Variant(dict(dims=1)),
            Variant(dict(dims=3)),
        ),
        skips=dict(
            every_option_bites="gradient changes no output, only gradients, which test_peers.py has"
        ),
    )
}
