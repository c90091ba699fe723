"""Multi-scale deformable attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4) -> Options:
    return dict(embed_dim=d_model, num_heads=n_heads, num_levels=n_levels, num_points=n_points)


REFERENCES = (
    Reference(
        "fundamentalvision/Deformable-DETR:MSDeformAttn",
        _authors,
        {
            "sampling_offsets": "offset",
            "attention_weights": "score",
            "value_proj": "value",
            "output_proj": "out",
        },
        map="b n heads s p",
    ),
)
