"""Simplified channel attention in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes


def _block(c: int, DW_Expand: int = 2, FFN_Expand: int = 2, drop_out_rate: float = 0.0) -> Options:
    return dict(channels=c, expansion=DW_Expand, hidden_expansion=FFN_Expand, dropout=drop_out_rate)


def _block_sizes(shapes: Shapes) -> Options:
    c = shapes["norm1.weight"][0]
    return dict(
        c=c,
        DW_Expand=shapes["conv1.weight"][0] // c,
        FFN_Expand=shapes["conv4.weight"][0] // c,
    )


def _gate(c: int, DW_Expand: int = 2, FFN_Expand: int = 2, drop_out_rate: float = 0.0) -> Options:
    return dict(channels=c * DW_Expand // 2)


REFERENCES = (
    Reference(
        "megvii-research/NAFNet:NAFBlock",
        _block,
        {
            "norm1": "norm",
            "conv1": "widen",
            "conv2": "depthwise",
            "sca.1": "gate.excite",
            "conv3": "narrow",
            "norm2": "hidden_norm",
            "conv4": "hidden",
            "conv5": "out",
        },
        builds="SimplifiedChannelBlock",
        sizes=_block_sizes,
        map="b c 1 1",
    ),
    Reference(
        "megvii-research/NAFNet:NAFBlock.sca",
        _gate,
        {"sca.1": "excite"},
        map="b c 1 1",
    ),
)
