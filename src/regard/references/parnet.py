"""ParNet blocks in other people's code."""

from __future__ import annotations

from .record import Legacy, Options, Reference, Shapes


def _authors(
    shapes: Shapes,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    padding: int | None = None,
    avg_pool: bool = False,
) -> Options:
    if padding not in (None, kernel_size // 2):
        raise ValueError(f"RepVGGBlock: padding must be {kernel_size // 2}, got {padding}")
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        groups=groups,
        average="rbr_1x1.1.conv.weight" in shapes,
    )


REFERENCES = (
    Reference(
        "imankgoyal/NonDeepNetworks:RepVGGBlock",
        _authors,
        {
            "rbr_identity": "norm",
            "se.cvsig.conv": "gate",
            "rbr_dense.conv": "wide.0",
            "rbr_dense.bn": "wide.1",
            "rbr_1x1.conv": "narrow.0",
            "rbr_1x1.bn": "narrow.1",
            "rbr_1x1.1.conv": "narrow.0",
            "rbr_1x1.1.bn": "narrow.1",
        },
        fixed=dict(dilation=1, activation="silu", se_block=True),
        ignored=("padding_mode", "deploy"),
        map="b o 1 1",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ParNetAttention",
        lambda channel=512: dict(in_channels=channel),
        {"sse.1": "gate", "conv3x3": "wide", "conv1x1": "narrow"},
        sizes=lambda s: dict(channel=s["conv1x1.0.weight"][0]),
        map="b o 1 1",
        differs="has no norm in its shortcut",
        before=dict(norm=False, bias=True),
        legacy=Legacy("attention.ParNetAttention", "channel=512"),
    ),
)
