"""Dynamic head in other people's code."""

from __future__ import annotations

from .record import Options, Reference


def _authors(in_channels: int = 256, out_channels: int = 256, norm_groups: int = 16) -> Options:
    return dict(in_channels=in_channels, out_channels=out_channels, norm_groups=norm_groups)


REFERENCES = (
    Reference(
        "microsoft/DynamicHead:DyConv",
        _authors,
        {
            "DyConv.0.conv": "convs.2",
            "DyConv.1.conv": "convs.0",
            "DyConv.2.conv": "convs.1",
            "DyConv.0.bn": "norms.2",
            "DyConv.1.bn": "norms.0",
            "DyConv.2.bn": "norms.1",
            "AttnConv.1": "look",
            "offset": "place",
            "relu.fc.0": "activation.squeeze",
            "relu.fc.2": "activation.excite",
        },
        map="b s j",
    ),
)
