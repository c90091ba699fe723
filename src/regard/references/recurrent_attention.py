"""The recurrent attention model in other people's code."""

from __future__ import annotations

from .record import Options, Reference

LAYERS = {"fc1": "what", "fc2": "where", "fc3": "mix_what", "fc4": "mix_where"}


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
        classes=num_classes,
        size=g,
        patches=k,
        scale=s,
        what=h_g,
        where=h_l,
        std=std,
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
            channels=c, size=g, patches=k, scale=s, what=h_g, where=h_l
        ),
        LAYERS,
        builds="GlimpseNetwork",
    ),
    Reference(
        "kevinzakka/recurrent-visual-attention:Retina",
        lambda g, k, s: dict(size=g, patches=k, scale=s),
        builds="Retina",
    ),
)
