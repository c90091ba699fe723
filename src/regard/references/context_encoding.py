"""Context encoding in other people's code."""

from __future__ import annotations

from .record import Reference

REFERENCES = (
    Reference(
        "zhanghang1989/PyTorch-Encoding:EncModule",
        lambda in_channels, nclass, ncodes=32, se_loss=True: dict(
            channels=in_channels, num_codewords=ncodes, num_classes=nclass if se_loss else None
        ),
        {
            "encoding.0": "project",
            "encoding.1": "norm",
            "encoding.3": "encoding",
            "encoding.4": "norm_codewords",
            "fc.0": "gate",
            "selayer": "classify",
        },
        ignored=("norm_layer",),
        map="b c",
    ),
    Reference(
        "zhanghang1989/PyTorch-Encoding:Encoding",
        lambda D, K: dict(channels=D, num_codewords=K),
        builds="CodewordEncoding",
        sizes=lambda s: dict(D=s["codewords"][1], K=s["codewords"][0]),
        map="b n k",
    ),
    Reference(
        "zhanghang1989/PyTorch-Encoding:SegmentationLosses",
        lambda nclass=-1: dict(num_classes=nclass),
        builds="SemanticEncodingLoss",
        ignored=("se_loss", "se_weight", "aux", "aux_weight", "weight", "ignore_index"),
    ),
)
