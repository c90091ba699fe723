"""The recurrent attention model in other people's code."""

from __future__ import annotations

from .record import Options, Reference

LAYERS = {"fc1": "glimpse", "fc2": "location", "fc3": "mix_glimpse", "fc4": "mix_location"}


def _model(
    g: int,
    k: int,
    s: float,
    c: int,
    h_g: int,
    h_l: int,
    std: float,
    hidden_size: int,
    num_classes: int,
) -> Options:
    if hidden_size != h_g + h_l:
        raise ValueError(
            f"RecurrentAttention: hidden_size ({hidden_size}) must be h_g + h_l ({h_g} + {h_l}): "
            "its core adds the glimpse to the state"
        )
    return dict(
        channels=c,
        num_classes=num_classes,
        patch_size=g,
        num_patches=k,
        patch_scale=s,
        glimpse_dim=h_g,
        location_dim=h_l,
        location_std=std,
    )


REFERENCES = (
    Reference(
        "kevinzakka/recurrent-visual-attention:RecurrentAttention",
        _model,
        {
            **{f"sensor.{theirs}": f"glimpse.{ours}" for theirs, ours in LAYERS.items()},
            "rnn.i2h": "enter",
            "rnn.h2h": "recur",
            "baseliner.fc": "baseline",
            "locator.fc": "locate.0",
            "locator.fc_lt": "locate.2",
            "classifier.fc": "classify",
        },
    ),
    Reference(
        "kevinzakka/recurrent-visual-attention:GlimpseNetwork",
        lambda h_g, h_l, g, k, s, c: dict(
            channels=c,
            patch_size=g,
            num_patches=k,
            patch_scale=s,
            glimpse_dim=h_g,
            location_dim=h_l,
        ),
        LAYERS,
        builds="GlimpseNetwork",
    ),
    Reference(
        "kevinzakka/recurrent-visual-attention:Retina",
        lambda g, k, s: dict(patch_size=g, num_patches=k, patch_scale=s),
        builds="Retina",
    ),
)
