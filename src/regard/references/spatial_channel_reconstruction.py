"""Spatial and channel reconstruction in other people's code."""

from __future__ import annotations

from .record import Options, Reference, Shapes

LAYERS = {
    "SRU.gn": "spatial.norm",
    "CRU.squeeze1": "squeeze_rich",
    "CRU.squeeze2": "squeeze_cheap",
    "CRU.GWC": "grouped",
    "CRU.PWC1": "pointwise",
    "CRU.PWC2": "cheap",
}


def _copied(
    op_channel: int,
    group_num: int = 4,
    gate_treshold: float = 0.5,
    alpha: float = 0.5,
    squeeze_radio: int = 2,
    group_size: int = 2,
    group_kernel_size: int = 3,
) -> Options:
    return dict(
        channels=op_channel,
        norm_groups=group_num,
        threshold=gate_treshold,
        alpha=alpha,
        reduction=squeeze_radio,
        groups=group_size,
        kernel_size=group_kernel_size,
    )


def _unit(
    oup_channels: int, group_num: int = 16, gate_treshold: float = 0.5, torch_gn: bool = True
) -> Options:
    return dict(
        channels=oup_channels,
        groups=group_num,
        threshold=gate_treshold,
        norm="group" if torch_gn else "unbiased",
    )


def _paper(
    op_channel: int,
    group_num: int = 4,
    gate_treshold: float = 0.5,
    alpha: float = 0.5,
    squeeze_radio: int = 2,
    group_size: int = 2,
    group_kernel_size: int = 3,
) -> Options:
    options = _copied(
        op_channel,
        group_num,
        gate_treshold,
        alpha,
        squeeze_radio,
        group_size,
        group_kernel_size,
    )
    return {**options, "fusion": "pair"}


def _sizes(shapes: Shapes) -> Options:
    return dict(
        op_channel=shapes["CRU.GWC.weight"][0], group_kernel_size=shapes["CRU.GWC.weight"][2]
    )


MAPS = "channel: b k_c 1 1, reweights: b c h w, informative: b c h w, noninformative: b c h w"

REFERENCES = (
    Reference("cheng-haha/ScConv:ScConv", _copied, LAYERS, sizes=_sizes, map=MAPS),
    Reference(
        "cheng-haha/ScConv:SRU",
        _unit,
        {"gn": "norm"},
        builds="SpatialReconstruction",
        map="reweights: b c h w, informative: b c h w, noninformative: b c h w",
    ),
    Reference("equations", _paper, LAYERS, sizes=_sizes, map=MAPS),
)
