"""Convolution and attention fusion in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(dim: int, num_heads: int, bias: bool) -> Options:
    return dict(channels=dim, num_heads=num_heads, bias=bias)


REFERENCES = (
    Reference(
        "summitgao/HCANet:Attention",
        _authors,
        {
            "qkv": "widen",
            "qkv_dwconv": "depthwise",
            "project_out": "project",
            "fc": "combine_heads",
            "dep_conv": "local",
        },
        middle=("qkv_dwconv.weight", "dep_conv.weight"),
        map="b heads d e",
    ),
)
