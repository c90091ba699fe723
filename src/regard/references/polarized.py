"""Polarized self-attention in other people's code."""

from __future__ import annotations

from .record import Legacy, Options, Reference

AUTHORS = {
    "conv_q_right": "channel_query",
    "conv_v_right": "channel_value",
    "conv_q_left": "spatial_query",
    "conv_v_left": "spatial_value",
}
XMU = {
    "ch_wq": "channel_query",
    "ch_wv": "channel_value",
    "ch_wz": "channel_out.0",
    "ln": "channel_out.1",
    "sp_wq": "spatial_query",
    "sp_wv": "spatial_value",
}
# The options of the paper.
PAPER: Options = dict(softmax="channels", transform="norm", bias=True)


def _parallel(
    inplanes: int, planes: int | None = None, kernel_size: int = 1, stride: int = 1
) -> Options:
    for name, got, want in (("planes", planes or inplanes, inplanes), ("stride", stride, 1)):
        if got != want:
            raise ValueError(
                f"PSA: {name} must be {want}, got {got}: gates of another size weigh nothing"
            )
    return dict(channels=inplanes)


def _sequential(
    inplanes: int, planes: int | None = None, kernel_size: int = 1, stride: int = 1
) -> Options:
    return {**_parallel(inplanes, planes, kernel_size, stride), "arrangement": "sequential"}


REFERENCES = (
    Reference(
        "DeLightCMU/PSA:PSA_p",
        _parallel,
        {**AUTHORS, "conv_up": "channel_out.0"},
        map="channel: b c 1*, spatial: b 1 *",
    ),
    Reference(
        "DeLightCMU/PSA:PSA_s",
        _sequential,
        {**AUTHORS, "conv_up": "channel_out"},
        map="channel: b c 1*, spatial: b 1 *",
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:ParallelPolarizedSelfAttention",
        lambda channel=512: dict(channels=channel, **PAPER),
        XMU,
        sizes=lambda s: dict(channel=s["ch_wv.weight"][1]),
        map="channel: b 1 c, spatial: b 1 *",
        legacy=Legacy("attention.PolarizedSelfAttention", "channel=512"),
    ),
    Reference(
        "xmu-xiaoma666/External-Attention-pytorch:SequentialPolarizedSelfAttention",
        lambda channel=512: dict(channels=channel, arrangement="sequential", **PAPER),
        XMU,
        sizes=lambda s: dict(channel=s["ch_wv.weight"][1]),
        map="channel: b 1 c, spatial: b 1 *",
        legacy=Legacy("attention.PolarizedSelfAttention", "channel=512"),
    ),
)
