"""ACmix in other people's code."""

from __future__ import annotations

from .record import Legacy, Options, Reference


def _arguments(
    in_planes: int,
    out_planes: int,
    kernel_att: int = 7,
    head: int = 4,
    kernel_conv: int = 3,
    stride: int = 1,
    dilation: int = 1,
) -> Options:
    for name, size, only in (("kernel_conv", kernel_conv, 3), ("dilation", dilation, 1)):
        if size != only:  # the authors' class cannot run with other sizes
            raise ValueError(f"ACmix: {name} must be {only}, got {size}")
    return dict(
        in_channels=in_planes,
        out_channels=out_planes,
        num_heads=head,
        window_size=kernel_att,
        stride=stride,
    )


REFERENCES = (
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ACmix",
        _arguments,
        {
            "conv1": "query",
            "conv2": "key",
            "conv3": "value",
            "conv_p": "position",
            "fc": "mix",
            "dep_conv.weight": "shift",
            "rate1": "alpha",
            "rate2": "beta",
        },
        map="b_heads k y x",
        legacy=Legacy("attention.ACmixAttention", "in_planes=256, out_planes=256"),
    ),
)
