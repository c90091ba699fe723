"""Gated attention pooling in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(
    width: int = 500, hidden: int = 128, gated: bool = False, branches: int = 1
) -> Options:
    if branches != 1:
        raise ValueError(f"branches: the authors' classifier takes one, got {branches!r}")
    return dict(embed_dim=width, hidden_dim=hidden, gated=gated, num_classes=1)


REFERENCES = (
    Reference(
        "AMLab-Amsterdam/AttentionDeepMIL",
        _authors,
        {
            "attention_V.0": "look",
            "attention_U.0": "gate",
            "attention_w": "score",
            "attention.0": "look",
            "attention.2": "score",
            "classifier.0": "classify",
        },
        # Theirs extract features from images of digits first.
        unread=("feature_extractor_part*",),
        sizes=lambda s: dict(
            width=s["classifier.0.weight"][1],
            hidden=s["attention_V.0.weight" if "attention_w.weight" in s else "attention.0.weight"][
                0
            ],
            gated="attention_w.weight" in s,
        ),
        map="b n",
    ),
)
