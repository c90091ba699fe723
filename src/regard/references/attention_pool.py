"""Attention pooling in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _clip(
    spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int | None = None
) -> Options:
    return dict(
        channels=embed_dim,
        num_heads=num_heads,
        out_channels=output_dim,
        image_size=spacial_dim,
        positions="sequence",
    )


REFERENCES = (
    Reference(
        "openai/CLIP:AttentionPool2d",
        _clip,
        {
            "positional_embedding": "embedding",
            "q_proj": "query",
            "k_proj": "key",
            "v_proj": "value",
            "c_proj": "out",
        },
        map="b heads 1 m",
    ),
    Reference(
        "timm:RotAttentionPool2d",
        differs="rotates queries and keys by their places, and has no position embedding",
        loads=False,
    ),
)
