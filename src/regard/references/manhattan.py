"""Manhattan attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference

NAMES = {
    "retention.q_proj": "query",
    "retention.k_proj": "key",
    "retention.v_proj": "value",
    "retention.lepe.conv": "local",
    "retention.out_proj": "out",
}


def _arguments(
    embed_dim: int, num_heads: int, initial_value: float = 2, heads_range: float = 4
) -> Options:
    return dict(
        channels=embed_dim,
        num_heads=num_heads,
        first_decay=initial_value,
        decay_range=heads_range,
    )


REFERENCES = (
    Reference(
        "qhfan/RMT:VisionRetentionAll",
        _arguments,
        NAMES,
        fixed=dict(value_factor=1),
        unread=("pos.*",),
        map="b heads n n",
    ),
    Reference(
        "qhfan/RMT:VisionRetentionChunk",
        _arguments,
        NAMES,
        fixed=dict(value_factor=1),
        unread=("pos.*",),
        differs="attends within rows and then within columns",
        before=dict(decomposed=True),
        map="0: b h heads w w, 1: b w heads h h",
    ),
)
